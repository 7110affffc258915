"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from t2d_runtime.errors import OutputError, T2DError
from t2d_runtime.storage.kinds import is_folder

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
    file.
    """
    if is_folder(path):
        raise cannot_write(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    # Only the beginning of the file's name, since a longer temporary name might not fit.
    temporary = path.parent / f".{path.name[:NAME_PART]}-{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readable for others as far as the process's umask allows; only the kernel can read it without changing it.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except T2DError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The error for a file that cannot be written: the reason, and advice where there is some."""
    advice = _ADVICE.get(error.errno or 0)
    return OutputError(f"cannot write {path}: {error.strerror or error}{f'; {advice}' if advice else ''}")
