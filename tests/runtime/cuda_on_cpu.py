"""A device that runs `masks.cu` on the CPU, compiled by the C++ compiler through `cuda_shim.cpp`."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.cuda import Cuda
from t2d_runtime.errors import BackendError
from t2d_runtime.masks.cuda.device import SOURCE, Argument, Size, pointers_to

SHIM = Path(__file__).with_name("cuda_shim.cpp")
TYPES = {ctypes.c_void_p: "*", ctypes.c_int: "int", ctypes.c_longlong: "index_t", ctypes.c_float: "float"}
WITH_BARRIERS = {"product", "norms", "normalise", "softmax", "extrema"}


def kernels() -> dict[str, list[str]]:
    """The kernels of `masks.cu`, and the types of their parameters."""
    found = re.findall(r"^__global__ void (\w+)\((.*?)\)", SOURCE.read_text(), re.MULTILINE | re.DOTALL)
    return {
        name: [re.sub(r"\s*\w+$", "", text.strip()) for text in parameters.split(",")] for name, parameters in found
    }


def build(folder: Path, compiler: str, *options: str) -> Path:
    """The kernels as a shared library."""
    library = folder / "kernels.so"
    table = " ".join(f"X({name})" for name in kernels())
    command = [compiler, "-std=c++17", "-O1", "-ffp-contract=fast", "-fPIC", "-shared", *options]
    command += [f'-DKERNELS="{SOURCE}"', f"-DTABLE={table}", "-x", "c++", str(SHIM), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return library


class Recorded:
    def __init__(self, launches: list[tuple[Any, ...]], run: Callable[..., None]) -> None:
        self.launches, self._run = launches, run
        self.closed = False

    def replay(self) -> None:
        assert not self.closed
        for launch in self.launches:
            self._run(*launch)

    def close(self) -> None:
        self.closed = True


class HostCuda:
    """CUDA's calls on the host's memory, which are noted."""

    copy_kinds = (1, 2)

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.sizes: dict[int, int] = {}
        self.calls: list[str] = []

    def stream(self) -> int:
        return 7

    def keep_freed_memory(self, owner: object) -> None:
        pass

    def give_back(self, function: str, *arguments: Any) -> None:
        self.call(function, *arguments)

    def upload(self, address: int, array: NDArray[Any], stream: Any) -> None:
        Cuda.upload(self, address, array, stream)  # type: ignore[arg-type]

    def download(self, array: NDArray[Any], address: int, stream: Any) -> None:
        Cuda.download(self, array, address, stream)  # type: ignore[arg-type]

    def call(self, function: str, *arguments: Any) -> Any:
        self.calls.append(function)
        match function:
            case "cudaMalloc" | "cudaMallocAsync":
                block = ctypes.create_string_buffer(arguments[0])
                self.memory[ctypes.addressof(block)] = block
                self.sizes[ctypes.addressof(block)] = arguments[0]
                return ctypes.addressof(block)
            case "cudaMemcpyAsync":
                ctypes.memmove(*arguments[:3])
            case "cudaFree" | "cudaFreeAsync":
                del self.memory[arguments[0]], self.sizes[arguments[0]]
            case "cudaEventElapsedTime":
                return 1.5
        return 7


class CpuDevice:
    """`Device` in the host's memory. It fails where an address is not its own, or an argument not as declared."""

    def __init__(self, library: Path | None, capacity: int = 1 << 30) -> None:
        self._library = None if library is None else ctypes.CDLL(str(library))
        self.without_compiler = library is None
        self._declared = kernels()
        self._left = capacity
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.pinned: dict[int, NDArray[Any]] = {}
        self.recordings: list[Recorded] = []
        self._recording: list[tuple[Any, ...]] | None = None
        self.identity: tuple[str, ...] = ("CPU",)
        self.closed = False
        self.foreign: Mapping[int, int] = {}
        """Sizes of an engine's memory, by address."""

    def allocate(self, nbytes: int) -> int:
        if nbytes > self._left:
            raise BackendError("CUDA's cudaMalloc failed: cudaErrorMemoryAllocation")
        self._left -= nbytes
        block = np.full(nbytes, 0xFF, np.uint8)  # floats that are not numbers: what is read must be written first
        self.memory[block.ctypes.data] = block
        return int(block.ctypes.data)

    def free(self, address: int) -> None:
        self._left += len(self.memory.pop(address))

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        array = np.zeros(shape, dtype)
        self.pinned[array.ctypes.data] = array
        return array

    def free_host_array(self, array: NDArray[Any]) -> None:
        del self.pinned[array.ctypes.data]

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        assert array.flags.c_contiguous
        self._inside(address, array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def to_host(self, array: NDArray[Any], address: int) -> None:
        self._inside(address, array.nbytes)
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, address: int, source: int, nbytes: int) -> None:
        self._inside(address, nbytes)
        assert any(start <= source and source + nbytes <= start + size for start, size in self.foreign.items())
        ctypes.memmove(address, source, nbytes)

    def launch(self, kernel: str, grid: Size, block: Size, arguments: Sequence[Argument]) -> None:
        assert max(grid[1], grid[2]) < 1 << 16, "CUDA takes no larger grid"
        assert np.prod(block) <= 1024
        assert [TYPES[type(argument)] for argument in arguments] == [
            "*" if "*" in kind else kind.strip() for kind in self._declared[kernel]
        ], kernel
        for argument in arguments:
            if isinstance(argument, ctypes.c_void_p):
                self._inside(argument.value or 0, 1)
        launch = (kernel, grid, block, list(arguments))
        if self._recording is None:
            self._run(*launch)
        else:
            self._recording.append(launch)

    def record(self, work: Callable[[], None]) -> Recorded:
        self._recording = []
        try:
            work()
            self.recordings.append(Recorded(self._recording, self._run))
        finally:
            self._recording = None
        return self.recordings[-1]

    def synchronize(self) -> None:
        pass

    def close(self) -> None:
        assert not self.memory
        assert not self.pinned
        assert not self.closed
        assert all(recording.closed for recording in self.recordings)
        self.closed = True

    def _run(self, kernel: str, grid: Size, block: Size, arguments: Sequence[Argument]) -> None:
        assert self._library is not None, "no compiler"
        sizes = [(ctypes.c_uint * 3)(*size) for size in (grid, block)]
        unknown = self._library.launch(kernel.encode(), *sizes, int(kernel in WITH_BARRIERS), pointers_to(arguments))
        assert not unknown, kernel

    def _inside(self, address: int, nbytes: int) -> None:
        assert any(start <= address and address + nbytes <= start + len(block) for start, block in self.memory.items())
