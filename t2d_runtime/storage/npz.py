"""Reads .npz files from anywhere: without pickles, and without memory for more than they hold."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

NPZ_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Errors of damaged files. zipfile raises RuntimeError for flipped bits that look like encryption or a compression."""


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name. Raises one of NPZ_ERRORS for another file.

    NumPy allocates what an array's header says before it reads the array, so each header is checked first.
    """
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):  # NumPy would speak of pickles, and of loading them unsafely
            raise zipfile.BadZipFile("File is not a zip file")
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    _check_header(member, info)
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def _check_header(member: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Raise ValueError for an array whose header does not say the number of bytes that there are."""
    version = npy.read_magic(member)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"{info.filename} has version {version} of NumPy's format, expected 1 or 2")
    shape, _, dtype = read(member)
    expected, found = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
    if expected != found:
        raise ValueError(f"{info.filename} has {found} bytes, but its header says {dtype} {shape}")
