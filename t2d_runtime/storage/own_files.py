"""Files that this program wrote, recognised by their content. Only these are replaced without `overwrite`."""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from t2d_runtime import __version__
from t2d_runtime.errors import OutputError
from t2d_runtime.storage.kinds import is_file
from t2d_runtime.storage.whole_file import cannot_write, replaceable, whole_file

PROGRAM = "t2d-runtime"
GENERATOR = f"{PROGRAM} {__version__}"
"""Program and version, written into each file."""

GENERATOR_KEY = "generator"
"""First key of JSON files, and an array of .npz files. Its value is GENERATOR."""

TEXT_MARK = f"{GENERATOR_KEY}: {GENERATOR}"
"""Mark in the first line of other text files, in a comment: "# ..." or "<!-- ... -->"."""

PNG_KEYWORD = "Software"
"""Keyword of the text chunk in PNG files. The PNG specification defines it for the program that made the picture."""

_PNG = b"\x89PNG\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_MATROSKA = b"\x1aE\xdf\xa3"
_VIDEO_ENDS = 1 << 16
"""Bytes at both ends of a video in which its comment is looked for."""

_OWN_JSON = re.compile(rb'\s*\{\s*"(?:generator"\s*:\s*"t2d-runtime[ "]|command"\s*:\s*"bench"\s*,\s*"provenance")')
"""The start of a JSON file of this program. The second form is an older one of `t2d bench`, without the key."""

_OWN_TEXT = re.compile(rb"(?:<\?xml [^\n]*\n)?[^\w\n]*" + GENERATOR_KEY.encode() + rb": t2d-runtime ")
"""The start of a text file of this program: the line "generator: t2d-runtime 1.0" in a comment of any kind, which only
an XML declaration may stand before."""

_OWN_FORMATS = ("t2d-vocabulary",)
"""Values of "format" in the metadata of a .safetensors file."""

_VOCABULARY_ARRAYS = {"names.npy", "vectors.npy", "digest.npy"}
"""Arrays of every vocabulary in an .npz file, which does not name the program."""

_HEADER_LIMIT = 1 << 20
"""Most bytes of a .safetensors header that are read; a vocabulary's names may be long."""

_CHUNKS_BEFORE_PIXELS = 64
"""Most chunks of a PNG that are read. This program's text chunk is in front of the pixels."""


@contextmanager
def own_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Opens a file as `whole_file` does. A file that is not this program's own is replaced only with `overwrite`.

    Raises OutputError.
    """
    refuse_foreign(path, overwrite=overwrite)
    with whole_file(path) as file:
        yield file
        refuse_foreign(path, overwrite=overwrite)  # another program may have made the file meanwhile


def refuse_foreign(path: Path, *, overwrite: bool = False) -> None:
    """Raises OutputError where a folder, a pipe, a device, or a file of another program has this name."""
    try:
        replaceable(path)
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError for NUL
        raise cannot_write(path, error) from error
    if not overwrite and not is_own(path):
        # A table has no comments: one of this program cannot be told from one that a person has corrected.
        why = (
            "may hold your own changes, as a table has no mark"
            if path.suffix == ".csv"
            else f"is not a result of {PROGRAM}"
        )
        raise OutputError(f"{path} exists and {why}; choose another --output, or replace it with --overwrite")


def is_own(path: Path) -> bool:
    """True where a file says that this program wrote it; False where it cannot be read."""
    try:
        if not is_file(path):
            return False
        with path.open("rb") as file:
            return is_own_content(file)
    except OSError:
        return False


def is_own_content(file: BinaryIO) -> bool:
    """True where an open file, which can be sought in, says that this program wrote it. Raises OSError."""
    start = file.read(256)
    file.seek(0)
    try:
        if start.startswith(_PNG):
            return _is_own_png(file)
        if start.startswith(_ZIP):
            return _is_own_npz(file)
        if start.startswith(_MATROSKA) or start[4:8] == b"ftyp":
            return _is_own_video(file)
        if _OWN_JSON.match(start) or _OWN_TEXT.match(start):
            return True
        return _is_own_safetensors(file)
    except (ValueError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile):
        return False  # damaged: its writer cannot be told


def _is_own_png(file: BinaryIO) -> bool:
    file.seek(len(_PNG))
    for _ in range(_CHUNKS_BEFORE_PIXELS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IDAT":
            return False
        if kind == b"tEXt" and length < 256:
            keyword, _, text = file.read(length).partition(b"\0")
            if keyword == PNG_KEYWORD.encode() and text.split(b" ")[0] == PROGRAM.encode():
                return True
            file.seek(4, os.SEEK_CUR)
        else:
            file.seek(length + 4, os.SEEK_CUR)
    return False


def _is_own_video(file: BinaryIO) -> bool:
    """True where the mark is in the video's comment: near the beginning of Matroska, at the end of MP4."""
    mark = f"{GENERATOR_KEY}: {PROGRAM} ".encode()
    if mark in file.read(_VIDEO_ENDS):
        return True
    file.seek(max(0, file.seek(0, os.SEEK_END) - _VIDEO_ENDS))
    return mark in file.read(_VIDEO_ENDS)


def _is_own_npz(file: BinaryIO) -> bool:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if set(names) >= _VOCABULARY_ARRAYS:
            return True
        if f"{GENERATOR_KEY}.npy" not in names:
            return False
        with archive.open(f"{GENERATOR_KEY}.npy") as member:
            content = member.read(1024)
    # An array of text has four bytes a letter.
    return content.startswith(b"\x93NUMPY") and f"{PROGRAM} ".encode("utf-32-le") in content


def _is_own_safetensors(file: BinaryIO) -> bool:
    (length,) = struct.unpack("<Q", file.read(8))
    if not 2 <= length <= _HEADER_LIMIT:
        return False
    header = json.loads(file.read(length))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return isinstance(metadata, dict) and metadata.get("format") in _OWN_FORMATS
