"""CUDA's runtime through cuda-python; every error becomes an exception."""

from __future__ import annotations

import importlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

from t2d_runtime.device.nvidia import driver_version
from t2d_runtime.errors import BackendError, BackendUnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


ALL_MEMORY = 2**64 - 1
"""Bytes of freed memory that may be kept: any number."""


class Cuda:
    """CUDA's runtime; every error becomes an exception."""

    def __init__(self) -> None:
        try:
            runtime = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise BackendUnavailableError(
                "cuda-python is not installed; 'pip install cuda-python' (12.8 or newer)"
            ) from error
        self._runtime: Any = runtime
        kinds = runtime.cudaMemcpyKind
        self.copy_kinds = (kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost)
        self.copy_within = kinds.cudaMemcpyDeviceToDevice
        self.capture_mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of CUDA's runtime and return its value, if it has one. Raises BackendError."""
        error, *values = getattr(self._runtime, function)(*arguments)
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise BackendError(f"CUDA's {function} failed: {error.name}")
        return values[0] if values else None

    def stream(self) -> Any:
        """A new stream that does not wait for the default one, nor lets that one wait: others may use it."""
        return self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)

    def keep_freed_memory(self, owner: object) -> None:
        """Keep what `cudaFreeAsync` frees for the next `cudaMallocAsync`, in place of giving it back at each wait.

        It goes back when the owner, an engine, is freed.
        """
        driver = importlib.import_module("cuda.bindings.driver")
        pool = self.call("cudaDeviceGetDefaultMemPool", 0)
        attribute = self._runtime.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
        self.call("cudaMemPoolSetAttribute", pool, attribute, driver.cuuint64_t(ALL_MEMORY))
        weakref.finalize(owner, self.give_back, "cudaMemPoolTrimTo", pool, 0).atexit = False  # the process's end does

    def give_back(self, function: str, *arguments: Any) -> None:
        """Call a function that frees something. A failure is only logged.

        After an error in a run all calls fail, and that error is the one to report.
        """
        try:
            self.call(function, *arguments)
        except BackendError as error:
            logger.warning("%s", error)

    def upload(self, address: int, array: NDArray[Any], stream: Any) -> None:
        """Copy an array in C order to the device, when the stream comes to it."""
        self.call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, self.copy_kinds[0], stream)

    def download(self, array: NDArray[Any], address: int, stream: Any) -> None:
        """Fill an array in C order from the device, when the stream comes to it."""
        self.call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, self.copy_kinds[1], stream)

    def device(self) -> tuple[str, str, str]:
        """Name, compute capability and driver version of device 0. Raises BackendUnavailableError without one."""
        try:
            properties = self.call("cudaGetDeviceProperties", 0)
            cuda_version = self.call("cudaDriverGetVersion")
        except BackendError as error:
            raise BackendUnavailableError(f"no NVIDIA GPU answers: {error}; install its driver") from error
        return properties.name.decode(), f"{properties.major}.{properties.minor}", driver_version(cuda_version)
