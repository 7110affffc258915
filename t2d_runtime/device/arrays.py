"""Memory of a GPU: arrays that an engine leaves there, and what one run takes and gives back."""

from __future__ import annotations

import math
import weakref
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.cuda import Cuda


class DeviceArray(Protocol):
    """A float32 array in C order in the memory of GPU 0, complete, whose memory lives as long as this object."""

    @property
    def address(self) -> int:
        """Address of its first element."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    def to_host(self) -> NDArray[np.float32]:
        """A copy in the host's memory. Raises BackendError where the device fails."""


class CudaArray:
    """A `DeviceArray` in memory of `cudaMallocAsync`, which is freed with this object."""

    def __init__(self, cuda: Cuda, stream: Any, address: int, shape: tuple[int, ...]) -> None:
        self._cuda, self._stream = cuda, stream
        self.address, self.shape = address, shape
        freeing = weakref.finalize(self, cuda.give_back, "cudaFreeAsync", address, stream)
        freeing.atexit = False  # the process's end frees all

    def to_host(self) -> NDArray[np.float32]:
        """See `DeviceArray.to_host`."""
        array = np.empty(self.shape, np.float32)
        self._cuda.download(array, self.address, self._stream)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        return array


class RunMemory:
    """Memory of one run on a stream, by name. Leaving the `with` block frees what was not kept."""

    def __init__(self, cuda: Cuda, stream: Any) -> None:
        self._cuda, self._stream = cuda, stream
        self._addresses: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._addresses:
            self._cuda.give_back("cudaFreeAsync", self._addresses.popitem()[1], self._stream)

    def allocate(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
        """Address of new memory for an array. Raises BackendError where there is too little."""
        nbytes = math.prod(shape) * dtype.itemsize
        self._addresses[name] = int(self._cuda.call("cudaMallocAsync", max(nbytes, 1), self._stream))
        return self._addresses[name]

    def upload(self, name: str, array: NDArray[Any]) -> int:
        """Address of a copy, which the stream makes, of an array in C order."""
        address = self.allocate(name, array.shape, array.dtype)
        self._cuda.upload(address, array, self._stream)
        return address

    def download(self, name: str, array: NDArray[Any]) -> None:
        """Fill an array in C order from memory, when the stream comes to it."""
        self._cuda.download(array, self._addresses[name], self._stream)

    def keep(self, name: str, shape: tuple[int, ...]) -> CudaArray:
        """Take memory out, as an array that frees itself. Call it when the work on the memory has ended."""
        return CudaArray(self._cuda, self._stream, self._addresses.pop(name), shape)
