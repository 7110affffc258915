"""The device that runs the kernels of `masks.cu`: an NVIDIA GPU through cuda-python and NVRTC, on one stream."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import logging
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from t2d_runtime.device.cuda import Cuda
from t2d_runtime.device.nvidia import load_libraries
from t2d_runtime.errors import BackendError, BackendUnavailableError

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("masks.cu")

Size = tuple[int, int, int]
"""Blocks of a grid, or threads of a block, along x, y and z."""

Argument = ctypes.c_void_p | ctypes.c_int | ctypes.c_longlong | ctypes.c_float
"""An argument of a kernel in the type that the kernel declares."""


class Recording(Protocol):
    """Launches that were recorded once and are repeated with the same arguments."""

    def replay(self) -> None:
        """Repeat them, in order with everything else on the device's stream."""

    def close(self) -> None:
        """Free what the recording holds."""


class Device(Protocol):
    """Memory and kernels. Copies and launches run in order and may end later; `synchronize` waits for all of them."""

    @property
    def identity(self) -> tuple[str, ...]:
        """Everything that decides the results: the device, its driver, and the kernels."""

    def allocate(self, nbytes: int) -> int:
        """Address of new memory on the device. Raises BackendError where there is too little."""

    def free(self, address: int) -> None:
        """Free such memory. A failure is only logged, as of all that frees."""

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A page-locked array, from which copies need no detour."""

    def free_host_array(self, array: NDArray[Any]) -> None:
        """Free the memory of such an array, which must not be used any more."""

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        """Copy an array to the device."""

    def to_host(self, array: NDArray[Any], address: int) -> None:
        """Fill an array from the device."""

    def copy(self, address: int, source: int, nbytes: int) -> None:
        """Copy memory of the device, that of an engine too, to an address of `allocate`."""

    def launch(self, kernel: str, grid: Size, block: Size, arguments: Sequence[Argument]) -> None:
        """Run a kernel of `masks.cu`."""

    def record(self, work: Callable[[], None]) -> Recording:
        """Record the launches that `work` makes, without running them."""

    def synchronize(self) -> None:
        """Wait until everything before has ended. Raises BackendError where any of it failed."""

    def close(self) -> None:
        """Free the kernels and the stream, after all memory and recordings."""


def source_digest() -> str:
    """The sha256 of `masks.cu`, the same for all kinds of line ends."""
    return hashlib.sha256(SOURCE.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def kernel_names() -> list[str]:
    """Names of the kernels of `masks.cu`."""
    return re.findall(r"^__global__ void (\w+)\(", SOURCE.read_text(encoding="utf-8"), re.MULTILINE)


def compile_kernels(capability: str) -> bytes:
    """Machine code of `masks.cu` for a compute capability such as "9.0", by NVRTC.

    Raises BackendUnavailableError without NVRTC, BackendError where it refuses the capability or the source.
    """
    load_libraries(("nvrtc",))
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        error, program = nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, [], [])
    except (ImportError, RuntimeError) as missing:  # its library is loaded by the first call
        raise BackendUnavailableError(
            f"CUDA's run-time compiler NVRTC does not load ({missing}); 'pip install cuda-python nvidia-cuda-nvrtc' "
            "for a driver of CUDA 13, 'pip install \"cuda-python<13\" nvidia-cuda-nvrtc-cu12' for one of CUDA 12"
        ) from missing

    def ask(function: str, *arguments: Any) -> Any:
        error, *values = getattr(nvrtc, function)(program, *arguments)
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise BackendError(f"CUDA's {function} failed: {error.name}{': ' * bool(log())}{log()}")
        return values[0] if values else None

    def log() -> str:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        text = bytearray(size)
        nvrtc.nvrtcGetProgramLog(program, text)
        return text.rstrip(b"\0").decode(errors="replace").strip()

    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise BackendError(f"CUDA's nvrtcCreateProgram failed: {error.name}")
    try:
        options = [f"--gpu-architecture=sm_{capability.replace('.', '')}".encode(), b"--std=c++17"]
        ask("nvrtcCompileProgram", len(options), options)
        code = bytearray(ask("nvrtcGetCUBINSize"))
        ask("nvrtcGetCUBIN", code)
        return bytes(code)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


class CudaRecording:
    """A CUDA graph."""

    def __init__(self, cuda: Cuda, graph: Any, stream: Any) -> None:
        self._cuda, self._stream = cuda, stream
        self._executable = cuda.call("cudaGraphInstantiate", graph, 0)

    def replay(self) -> None:
        """Launch the graph."""
        self._cuda.call("cudaGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Free the graph."""
        self._cuda.give_back("cudaGraphExecDestroy", self._executable)


class CudaDevice:
    """GPU 0. Use it from one thread at a time."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self._name, self._capability, self._driver = cuda.device()
        self.stream = cuda.stream()
        # Loaded through the driver, whose calls need the context that the stream has made.
        self._driver_api: Any = importlib.import_module("cuda.bindings.driver")
        self._module = self._ask("cuModuleLoadData", compile_kernels(self._capability))
        # All of them now: a kernel that is looked up while launches are recorded may be loaded there, which ends that.
        self._kernels = {name: self._ask("cuModuleGetFunction", self._module, name.encode()) for name in kernel_names()}
        self._pinned: dict[int, int] = {}

    @cached_property
    def identity(self) -> tuple[str, ...]:
        """GPU, compute capability, driver and the kernels' source."""
        return self._name, self._capability, self._driver, source_digest()

    def allocate(self, nbytes: int) -> int:
        """See `Device.allocate`."""
        return int(self.cuda.call("cudaMalloc", max(nbytes, 1)))

    def free(self, address: int) -> None:
        """See `Device.free`."""
        self.cuda.give_back("cudaFree", address)

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """See `Device.host_array`."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self.cuda.call("cudaMallocHost", max(size, 1)))
        content = np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address))
        array: NDArray[Any] = content.view(dtype).reshape(shape)
        self._pinned[array.ctypes.data] = address
        return array

    def free_host_array(self, array: NDArray[Any]) -> None:
        """See `Device.free_host_array`."""
        self.cuda.give_back("cudaFreeHost", self._pinned.pop(array.ctypes.data))

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        """See `Device.to_device`."""
        self.cuda.upload(address, array, self.stream)

    def to_host(self, array: NDArray[Any], address: int) -> None:
        """See `Device.to_host`."""
        self.cuda.download(array, address, self.stream)

    def copy(self, address: int, source: int, nbytes: int) -> None:
        """See `Device.copy`."""
        self.cuda.call("cudaMemcpyAsync", address, source, nbytes, self.cuda.copy_within, self.stream)

    def launch(self, kernel: str, grid: Size, block: Size, arguments: Sequence[Argument]) -> None:
        """See `Device.launch`."""
        packed = pointers_to(arguments)
        self._ask("cuLaunchKernel", self._kernels[kernel], *grid, *block, 0, self.stream, ctypes.addressof(packed), 0)

    def record(self, work: Callable[[], None]) -> CudaRecording:
        """See `Device.record`. A thread that waits for the whole device ends a recording, which is begun once more."""
        try:
            return self._record(work)
        except BackendError as error:
            logger.warning("%s; recording once more", error)
            return self._record(work)

    def _record(self, work: Callable[[], None]) -> CudaRecording:
        self.cuda.call("cudaStreamBeginCapture", self.stream, self.cuda.capture_mode)
        try:
            work()
        except BaseException:
            self._abandon_capture()
            raise
        graph = self.cuda.call("cudaStreamEndCapture", self.stream)
        try:
            return CudaRecording(self.cuda, graph, self.stream)
        finally:
            self.cuda.call("cudaGraphDestroy", graph)

    def synchronize(self) -> None:
        """See `Device.synchronize`."""
        self.cuda.call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """See `Device.close`."""
        self._kernels.clear()
        self.cuda.give_back("cudaFree", 0)  # gives this thread the context that the driver's call needs
        try:
            self._ask("cuModuleUnload", self._module)
        except BackendError as error:
            logger.warning("%s", error)
        self.cuda.give_back("cudaStreamDestroy", self.stream)

    def _abandon_capture(self) -> None:
        try:
            self.cuda.call("cudaGraphDestroy", self.cuda.call("cudaStreamEndCapture", self.stream))
        except BackendError as error:
            logger.warning("%s", error)  # the error before it is reported

    def _ask(self, function: str, *arguments: Any) -> Any:
        error, *values = getattr(self._driver_api, function)(*arguments)
        if error != self._driver_api.CUresult.CUDA_SUCCESS:
            raise BackendError(f"CUDA's {function} failed: {error.name}")
        return values[0] if values else None


def pointers_to(arguments: Sequence[Argument]) -> ctypes.Array[ctypes.c_void_p]:
    """Addresses of a kernel's arguments, in the form in which a launch takes them; they must outlive it."""
    return (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
