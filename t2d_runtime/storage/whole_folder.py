"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from t2d_runtime.errors import OutputError, T2DError
from t2d_runtime.storage.whole_file import NAME_PART, cannot_write

SYNCED_AT_ONCE = 8
"""Files synced to the disk at the same time. One by one, thousands of small files would each wait for the journal."""


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output`, moved there when the block ends without an error.

    An interrupted or failed block leaves the old state. The files reach the disk before the folder gets its name, so
    that a power cut leaves no folder of empty files. Where `output` is a link, the folder that it leads to is replaced.
    Raises OutputError where the folder cannot be written, and as `check_replaceable` before the block.
    """
    target = check_replaceable(output)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Only the beginning of the folder's name, since a longer temporary name might not fit.
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name[:NAME_PART]}-", dir=target.parent))
    except OSError as error:
        raise cannot_write(output, error) from error
    try:
        yield staging
        with ThreadPoolExecutor(SYNCED_AT_ONCE) as pool:
            list(pool.map(_settle, (staging, *staging.rglob("*"))))
        _exchange(staging, target)
    except T2DError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error}; free some space or choose another --output") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_replaceable(output: Path) -> Path:
    """The place that a folder would be moved to, without links. Called before any work.

    Raises OutputError for a name that no file can have, and for a folder that cannot be moved away: the working
    directory, one that it is in, and a mounted one.
    """
    try:
        target = output.resolve()
        target.lstat()
    except FileNotFoundError:
        return target
    except RuntimeError as error:  # a circle of links
        raise cannot_write(output, OSError(errno.ELOOP, os.strerror(errno.ELOOP))) from error
    except (OSError, ValueError) as error:  # ValueError for NUL
        raise cannot_write(output, error) from error
    if not target.is_dir():
        raise cannot_write(output, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if _working_directory().is_relative_to(target):
        raise OutputError(f"cannot replace {output}, the folder that this command runs in; name a folder inside it")
    if os.path.ismount(target):
        raise OutputError(f"cannot replace {output}, where a file system is mounted; name a folder inside it")
    return target


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed
        return Path()


def _exchange(new: Path, target: Path) -> None:
    """Move a folder to its place, and put back the one of before where that fails."""
    replaced = new.with_name(f"{new.name}-replaced")
    if not target.exists():
        new.rename(target)
        return
    target.rename(replaced)  # a rename is instant; during a slow removal neither folder would be whole
    try:
        new.rename(target)
    except BaseException as error:
        try:
            replaced.rename(target)
        except OSError as second:
            raise OutputError(
                f"cannot write {target}: {error}; the folder of before is now {replaced}: rename it ({second})"
            ) from error
        raise
    shutil.rmtree(replaced, ignore_errors=True)


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
