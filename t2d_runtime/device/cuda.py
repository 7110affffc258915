"""CUDA's runtime through cuda-python; every error becomes an exception."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from t2d_runtime.device.nvidia import driver_version
from t2d_runtime.errors import BackendError, BackendUnavailableError

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

    def keep_freed_memory(self) -> None:
        """Keep what `cudaFreeAsync` frees for the next `cudaMallocAsync`, in place of giving it back at each wait."""
        driver = importlib.import_module("cuda.bindings.driver")
        pool = self.call("cudaDeviceGetDefaultMemPool", 0)
        attribute = self._runtime.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
        self.call("cudaMemPoolSetAttribute", pool, attribute, driver.cuuint64_t(ALL_MEMORY))

    def free(self, buffer: int, stream: Any) -> None:
        """Free memory. A failure is only logged: after an error in a run all calls fail, and that error is reported."""
        try:
            self.call("cudaFreeAsync", buffer, stream)
        except BackendError as error:
            logger.warning("%s", error)

    def device(self) -> tuple[str, str, str]:
        """Name, compute capability and driver version of device 0. Raises BackendUnavailableError without one."""
        try:
            properties = self.call("cudaGetDeviceProperties", 0)
            cuda_version = self.call("cudaDriverGetVersion")
        except BackendError as error:
            raise BackendUnavailableError(f"no NVIDIA GPU answers: {error}; install its driver") from error
        return properties.name.decode(), f"{properties.major}.{properties.minor}", driver_version(cuda_version)
