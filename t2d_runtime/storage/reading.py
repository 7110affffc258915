"""Text files that a user names, and the reasons why any file cannot be read."""

from __future__ import annotations

import errno
from pathlib import Path

from t2d_runtime.errors import T2DError

_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""First bytes of UTF-16 text, which some editors on Windows write and call Unicode."""


def read_text_file(path: Path, expected: str, error: type[T2DError]) -> str:
    """Text of a UTF-8 file, without its byte order mark.

    Raises `error`, which says why the file cannot be read, and that `expected` was: "a text file, one class a line".
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as reason:  # ValueError for NUL in a path
        why = reason_against(reason) if isinstance(reason, OSError) else str(reason)
        raise error(f"cannot read {path}: {why}; expected {expected}") from reason
    if content.startswith(_UTF_16_MARKS):
        raise error(f"cannot read {path}: its text is UTF-16; save it as UTF-8; expected {expected}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(
            f"cannot read {path}: it is not UTF-8 text, as byte {reason.start} shows; expected {expected}"
        ) from reason


def check_readable(path: Path, error: type[T2DError]) -> None:
    """Raise `error`, with the reason, for a file that cannot be opened; FileNotFoundError passes."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise
    except OSError as reason:
        raise error(f"cannot read {path}: {reason_against(reason)}") from reason


def reason_against(error: OSError) -> str:
    """The reason why a file cannot be read, in words, with what to do about it where there is something."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission; give this user the right to read it and to enter its folders"
    if error.errno == errno.ENAMETOOLONG:
        return "its name is too long for the file system; give it a shorter one"
    if error.errno == errno.ELOOP:
        return "its links lead in a circle; give a path without them"
    if error.errno == errno.EISDIR:
        return "it is a folder"
    if error.errno == errno.ENOENT:
        return "no such file"
    return error.strerror or str(error)
