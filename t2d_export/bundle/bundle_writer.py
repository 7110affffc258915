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
"""Files synced to the disk at the same time. One by one, thousands of small files would each wait for the journal."""


@contextmanager
def staged_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """`whole_folder` for a bundle, after `check_output`, before any work."""
    check_output(output, overwrite=overwrite)
    with whole_folder(output) as folder:
        yield folder


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output`, moved there when the block ends without an error.

    An interrupted or failed block leaves the old state. The files reach the disk before the folder gets its name, so
    that a power cut leaves no folder of empty files.
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
            output.rename(replaced)  # a rename is instant; during a slow removal neither folder would be whole
        staging.rename(output)
        shutil.rmtree(replaced, ignore_errors=True)
    except T2DError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error}; free some space or choose another --output") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _settle(path: Path) -> None:
    """Let others read a file or folder, which mkdtemp and some libraries do not, and sync a file's content to disk."""
    path.chmod(0o755 if path.is_dir() else 0o644)
    if path.is_file():
        with path.open("rb+") as file:  # some systems sync only files opened for writing
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
