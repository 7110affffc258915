"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from t2d_runtime.errors import OutputError, T2DError

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EACCES: "choose a folder that this user may write to",
    errno.EPERM: "choose a folder that this user may write to",
    errno.EROFS: "choose a folder that can be written to",
    errno.EISDIR: "a folder has this name; move it away, or choose another name",
    errno.ENOTEMPTY: "a folder has this name; move it away, or choose another name",
    errno.ENOTDIR: "a file stands where a folder is expected; choose another --output",
    errno.EEXIST: "a file stands where a folder is expected; choose another --output",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "links of this name lead in a circle; choose another name",
    errno.EFBIG: "choose a file system that holds larger files",
}
"""Advice for each reason why a file cannot be written."""


NAME_PART = 40
"""Characters of a file's name that its temporary name keeps: at most 160 bytes of the 255 that file systems take."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under `path` only when the block ends without an error. Raises OutputError.

    The content reaches the disk before the name, so that a power cut leaves the old file or the new one, never an empty
    file. Where `path` is a link, the file that it leads to is replaced. Pipes and devices are refused: a file would
    take their place.
    """
    try:
        target = replaceable(path)
        # Only the beginning of the file's name, since a longer temporary name might not fit.
        temporary = target.parent / f".{target.name[:NAME_PART]}-{secrets.token_hex(8)}"
        target.parent.mkdir(parents=True, exist_ok=True)
        # Readable for others as far as the process's umask allows; only the kernel can read it without changing it.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
    except (OSError, ValueError) as error:  # ValueError for NUL
        raise cannot_write(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except T2DError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def replaceable(path: Path) -> Path:
    """The place where a file would be written: `path`, or where it leads as a link.

    Raises OSError where a folder, a pipe or a device stands there, and ValueError for a name that no file can have.
    """
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, expected a file; choose another name")
    return path


def cannot_write(path: Path, error: OSError | ValueError) -> OutputError:
    """The error for a file that cannot be written: the reason, and advice where there is some."""
    advice = _ADVICE.get(getattr(error, "errno", None) or 0)
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"cannot write {path}: {reason}{f'; {advice}' if advice else ''}")
