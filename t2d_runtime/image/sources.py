"""Reads the bytes of a picture from a path or an open binary file."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from typing import Protocol

from t2d_runtime.errors import ImageError, ImageNotFoundError
from t2d_runtime.image.sizes import BYTES_PER_PIXEL
from t2d_runtime.storage.reading import reason_against

_BLOCK = 2**20
"""Bytes read at a time where the length is not known."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:)/+")
"""Beginning of an address; paths keep one of its two slashes. A drive of Windows has one letter."""

_LOCKS = tuple(threading.Lock() for _ in range(64))


class BinaryFile(Protocol):
    """Interface shared by open files, BytesIO, pipes and HTTP responses."""

    def read(self, size: int = ..., /) -> bytes:
        """Read at most `size` bytes; none at the end."""


def lock_of(shared: object) -> threading.Lock:
    """The lock under which a caller's object is read, the same in each thread. A few objects share one lock."""
    return _LOCKS[id(shared) // 16 % len(_LOCKS)]


def read_path(path: str | PathLike[str], limit: int) -> tuple[bytes, str]:
    """The bytes of a file and its name.

    A pipe that this process has already open, such as /dev/stdin, is read too. A named pipe is refused: it would wait
    for a writer. Raises ImageNotFoundError, and ImageError with the reason for a file that cannot be read.
    """
    text = fspath(path)
    if not isinstance(text, str) or not text:
        raise ImageError(f"expected the path of an image file, as text, got {text!r}")
    name = str(Path(text))
    try:
        kind = Path(text).stat().st_mode
        if not stat.S_ISREG(kind) and not (stat.S_ISFIFO(kind) and _is_open_already(text)):
            raise ImageError(f"{name} is not a file but {_kind_in_words(kind)}")
        with Path(text).open("rb") as file:
            return _read(file.read, name, limit), name
    except FileNotFoundError as error:
        if _ADDRESS.match(text):
            address = _ADDRESS.sub(r"\1//", text)
            raise ImageNotFoundError(
                f"{address} is an address, no file; download the image and give its path"
            ) from error
        raise ImageNotFoundError(f"{name}: no such image file") from error
    except ImageError:
        raise
    except ValueError as error:  # NUL, or a character that the file system's encoding lacks
        raise ImageError(f"{text!r} cannot be a path ({error}); expected that of an image file") from error
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {reason_against(error)}") from error


def read_file(file: BinaryFile, limit: int) -> tuple[bytes, str]:
    """The bytes of an open binary file, from its beginning where it can be sought, and its name.

    Raises ImageError for a text file, for a closed one, and for any error of the file.
    """
    given = getattr(file, "name", None)
    name = given if isinstance(given, str) and given else "the image"
    with lock_of(file):
        try:
            seekable = getattr(file, "seekable", None)
            if seekable is not None and seekable():
                file.seek(0)  # type: ignore[attr-defined]
            return _read(file.read, name, limit), name
        except (OSError, EOFError, ValueError) as error:
            if isinstance(error, ImageError):
                raise
            raise ImageError(f"{name} cannot be read from its open file: {error}") from error


def _read(read: Callable[[int], object], name: str, limit: int) -> bytes:
    most = limit * BYTES_PER_PIXEL
    blocks: list[bytes] = []
    length = 0
    while True:
        block = read(_BLOCK if length else 64 * 2**10)
        if not isinstance(block, bytes):
            got = "nothing yet" if block is None else type(block).__name__
            raise ImageError(f"{name} gives {got}, expected bytes; open the file in binary mode, 'rb'")
        if not block:
            return b"".join(blocks)
        blocks.append(block)
        length += len(block)
        if length > most:
            raise ImageError(f"{name} has more than {most} bytes, the limit for {limit} pixels; make it smaller")


def _is_open_already(path: str) -> bool:
    return path == "/dev/stdin" or os.path.dirname(path) in ("/dev/fd", "/proc/self/fd")  # noqa: PTH120


def _kind_in_words(kind: int) -> str:
    if stat.S_ISDIR(kind):
        return "a folder; give the image files in it"
    if stat.S_ISFIFO(kind):
        return "a named pipe; open it and give the open file, or write the image to a file"
    if stat.S_ISCHR(kind):
        return "a device or a terminal; expected an image file"
    return "a socket or a device; expected an image file"
