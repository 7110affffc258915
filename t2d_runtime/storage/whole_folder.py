"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from t2d_runtime.errors import OutputError, T2DError
from t2d_runtime.storage.whole_file import cannot_write

SYNCED_AT_ONCE = 8
"""Files synced to the disk at the same time. One by one, thousands of small files would each wait for the journal."""


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
        raise cannot_write(output.parent, error) from error
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
    """Let others read a file or folder, which mkdtemp and some libraries do not, and sync a file's content to disk.

    A link is left alone: what it leads to is not of this folder.
    """
    if path.is_symlink():
        return
    path.chmod(0o755 if path.is_dir() else 0o644)
    if path.is_file():
        with path.open("rb+") as file:  # some systems sync only files opened for writing
            os.fsync(file.fileno())
