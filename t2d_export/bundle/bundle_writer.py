"""Writing a bundle: everything in a temporary folder, verified, then moved into place at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from t2d_runtime.bundle.files import MANIFEST, record_of
from t2d_runtime.bundle.manifest import FileRecord, Manifest
from t2d_runtime.errors import OutputError, T2DError
from t2d_runtime.storage.whole_file import whole_file

SYNCED_AT_ONCE = 8
"""Files that are seen to the disk side by side: thousands of small ones one by one take a journal's turn each."""


@contextmanager
def staged_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """`whole_folder` for a bundle: refuses what `check_output` refuses, before any work."""
    check_output(output, overwrite=overwrite)
    with whole_folder(output) as folder:
        yield folder


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its place when the block ends without an error.

    An interrupted or failed block leaves nothing but what was there before. The files are on the disk before the
    folder has its name, so that a power cut leaves no folder of empty ones.
    Raises OutputError where the folder cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise OutputError(f"cannot write to {output.parent}: {error.strerror}") from error
    try:
        yield staging
        with ThreadPoolExecutor(SYNCED_AT_ONCE) as pool:
            list(pool.map(_settle, (staging, *staging.rglob("*"))))
        replaced = staging.with_name(f"{staging.name}-replaced")
        if output.exists():
            output.rename(replaced)  # at once, where removing it would take a while in which neither is whole
        staging.rename(output)
        shutil.rmtree(replaced, ignore_errors=True)
    except T2DError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error}; free some space or choose another --output") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _settle(path: Path) -> None:
    """Open a file or folder to others, as mkdtemp and some libraries do not, and see a file's content to the disk."""
    path.chmod(0o755 if path.is_dir() else 0o644)
    if path.is_file():
        with path.open("rb+") as file:  # some systems sync only what may be written
            os.fsync(file.fileno())


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
