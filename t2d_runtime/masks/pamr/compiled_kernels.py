"""The inner loops of PAMR in C: a shared library, built from `pamr.c` when this package is installed."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from t2d_runtime.errors import OptionError
from t2d_runtime.masks.pamr.kernels import Floats, Grid

SOURCE = Path(__file__).with_name("pamr.c")
SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}
LIBRARY = SOURCE.with_name("libpamr" + SUFFIXES.get(sys.platform, ".so.1"))
"""The suffix is not ".so", which tools that walk through packages take for a Python module."""

BLOCK, PLANES = 16, 8
"""Constants of `pamr.c`: scores of a sheet's pixel, also pixels of a block of weights; most classes kept as planes."""

ALIGNMENT = 64
"""Bytes of a cache line, which then holds the 16 scores of a sheet's pixel."""

VERSIONS = ("plain", "AVX2", "AVX-512")
"""Instructions that the versions of the loops in `pamr.c` need, by number; the plain one runs on every processor."""


class _Grid(ctypes.Structure):
    """The structure `pamr_grid`."""

    _fields_ = (
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("border", ctypes.c_int),
        ("count", ctypes.c_int),
        ("dilations", ctypes.POINTER(ctypes.c_int)),
    )


@cache
def library() -> ctypes.CDLL:
    """The compiled loops. Raises OSError where they are missing, do not load, or were built from another `pamr.c`."""
    loaded = ctypes.CDLL(str(LIBRARY))
    number, grid, floats = ctypes.c_int, ctypes.POINTER(_Grid), ctypes.c_void_p
    try:
        loaded.pamr_source.restype = ctypes.c_char_p
        of = loaded.pamr_source().decode()
        loaded.pamr_version.argtypes = ()
        loaded.pamr_weigh.argtypes = (number, grid, floats, floats, number, number)
        loaded.pamr_spread.argtypes = (number, grid, number, floats, floats, floats, number, number)
        loaded.pamr_put.argtypes = loaded.pamr_take.argtypes = (grid, number, floats, floats, number, number)
    except AttributeError as error:
        raise OSError(f"{LIBRARY} was not built from {SOURCE}: {error}") from error
    if of != source_digest():
        raise OSError(f"{LIBRARY} was built from another version of {SOURCE}")
    for function in (loaded.pamr_weigh, loaded.pamr_spread, loaded.pamr_put, loaded.pamr_take):
        function.restype = None
    return loaded


def source_digest() -> str:
    """The sha256 of `pamr.c`, which is also built into the library. It is the same for all kinds of line ends."""
    return hashlib.sha256(SOURCE.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


class CompiledKernels:
    """`Kernels` in C, in the layouts that `pamr.c` describes.

    `version`: index into VERSIONS, the instructions; None takes the fastest that this processor runs.
    """

    name: ClassVar[str] = "compiled loops"

    def __init__(self, grid: Grid, version: int | None = None) -> None:
        self._library = library()
        fastest = self._library.pamr_version()
        if version is not None and not 0 <= version <= fastest:
            raise OptionError(f"version is {version}, expected one that this processor runs: 0 to {fastest}")
        self._version = fastest if version is None else version
        self._grid = grid
        self._dilations = (ctypes.c_int * len(grid.dilations))(*grid.dilations)
        self._c_grid = _Grid(grid.height, grid.width, grid.border, len(grid.dilations), self._dilations)

    def new_weights(self) -> Floats:
        """An array for weights (H,W/16,K,16), the width rounded up."""
        return _aligned(self._weights_shape())

    def new_padded(self, count: int) -> Floats:
        """An array for padded planes (N,H,padded row), or for a sheet (1,H,padded row,16) of more than 8 planes."""
        return _aligned(self._padded_shape(count))

    def weigh(self, colours: Floats, weights: Floats, first: int, last: int) -> None:
        """Affinity: see `Kernels.weigh`."""
        self._check_rows(first, last)
        pixels, to = _address(colours, self._padded_shape(3)), _address(weights, self._weights_shape(), writes=True)
        self._library.pamr_weigh(self._version, self._c_grid, pixels, to, first, last)

    def put(self, planes: Floats, padded: Floats, first: int, last: int) -> None:
        """Planes to padded ones: see `Kernels.put`."""
        self._check_rows(first, last)
        count = len(planes)
        plain, to = _address(planes, self._plain_shape(count)), _address(padded, self._padded_shape(count), writes=True)
        self._library.pamr_put(self._c_grid, count, plain, to, first, last)

    def spread(self, source: Floats, weights: Floats, target: Floats, first: int, last: int) -> None:
        """One iteration: see `Kernels.spread`."""
        self._check_rows(first, last)
        count = len(source) if source.ndim == 3 else BLOCK  # a sheet has four axes
        shape = self._padded_shape(count)
        at, to = _address(source, shape), _address(target, shape, writes=True)
        by = _address(weights, self._weights_shape())
        self._library.pamr_spread(self._version, self._c_grid, count, at, by, to, first, last)

    def take(self, padded: Floats, planes: Floats, first: int, last: int) -> None:
        """Padded planes to plain ones: see `Kernels.take`."""
        self._check_rows(first, last)
        count = len(planes)
        at, plain = _address(padded, self._padded_shape(count)), _address(planes, self._plain_shape(count), writes=True)
        self._library.pamr_take(self._c_grid, count, at, plain, first, last)

    def _plain_shape(self, count: int) -> tuple[int, ...]:
        return count, self._grid.height, self._grid.width

    def _padded_shape(self, count: int) -> tuple[int, ...]:
        pitch = _rounded_up(self._grid.width) + 2 * self._grid.border
        if not 1 <= count <= BLOCK:
            raise OptionError(f"{count} planes, expected 1 to {BLOCK} at a time")
        if count > PLANES:
            return 1, self._grid.height, pitch, BLOCK
        return count, self._grid.height, pitch

    def _weights_shape(self) -> tuple[int, ...]:
        neighbours = 8 * len(self._grid.dilations)
        return self._grid.height, _rounded_up(self._grid.width) // BLOCK, neighbours, BLOCK

    def _check_rows(self, first: int, last: int) -> None:
        if not 0 <= first <= last <= self._grid.height:
            raise OptionError(f"rows are {first} to {last}, expected some within 0 to {self._grid.height}")


def _rounded_up(width: int) -> int:
    return -(-width // BLOCK) * BLOCK


def _aligned(shape: tuple[int, ...]) -> Floats:
    size = int(np.prod(shape))
    room = np.empty(size + ALIGNMENT // 4, np.float32)
    start = -room.ctypes.data % ALIGNMENT // 4
    return room[start : start + size].reshape(shape)


def _address(array: Floats, shape: tuple[int, ...], *, writes: bool = False) -> int:
    """The address of an array's data, after a check of the shape and memory layout that the compiled loops need."""
    if writes and not array.flags.writeable:
        raise OptionError("an array cannot be written, expected one that can")
    if array.shape != shape or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise OptionError(
            f"an array is {array.dtype} {array.shape}, strides {array.strides}; expected contiguous float32 {shape}"
        )
    return array.ctypes.data
