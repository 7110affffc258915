"""Writing a bundle: everything in a temporary folder, verified, then moved into place at once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2d_runtime.bundle import MANIFEST, record_of
from t2d_runtime.errors import OutputError, T2DError
from t2d_runtime.manifest import FileRecord, Manifest
from t2d_runtime.whole_file import whole_file


@contextmanager
def staged_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """`whole_folder` for a bundle: refuses what `check_output` refuses, before any work."""
    check_output(output, overwrite=overwrite)
    with whole_folder(output) as folder:
        yield folder


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its place when the block ends without an error.

    An interrupted or failed block leaves nothing. Raises OutputError where the folder cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise OutputError(f"cannot write to {output.parent}: {error.strerror}") from error
    try:
        yield staging
        # mkdtemp's folders, and the files that some libraries write, are closed to others.
        for path in (staging, *staging.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if output.exists():
            shutil.rmtree(output)
        staging.rename(output)
    except T2DError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error}; free some space or choose another --output") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise OutputError where a bundle must not be written to `output`; called before any work."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / MANIFEST).is_file():
        raise OutputError(f"{output} exists and is not a bundle; choose another --output")
    if not overwrite:
        raise OutputError(f"{output} is a bundle already; choose another --output, or add --overwrite")


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Records of every file of a bundle besides its manifest, by path relative to the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): record_of(path) for path in files}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json."""
    with whole_file(folder / MANIFEST) as file:
        file.write(manifest.to_json().encode())
