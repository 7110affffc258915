"""The NVIDIA GPU of this machine, asked through the driver alone, and its libraries from Python packages."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from t2d_runtime.errors import BackendUnavailableError

logger = logging.getLogger(__name__)

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
"""The driver's library. It numbers GPUs as CUDA_VISIBLE_DEVICES says, as every engine here does."""

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
QUERY = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0")

CAPABILITY = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


def gpu() -> tuple[str, str]:
    """Name with compute capability, and driver version, of GPU 0. Raises BackendUnavailableError without one."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise BackendUnavailableError(f"no NVIDIA GPU answers ({error}); install its driver") from error

    def ask(function: str, *arguments: object) -> None:
        status = getattr(driver, function)(*arguments)
        if status != 0:
            raise BackendUnavailableError(
                f"no NVIDIA GPU answers ({function} gives {status}: {_meaning(driver, status)}); see 'nvidia-smi' and "
                "CUDA_VISIBLE_DEVICES"
            )

    device, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    ask("cuInit", 0)
    ask("cuDeviceGet", ctypes.byref(device), 0)
    ask("cuDeviceGetName", name, len(name), device)
    ask("cuDriverGetVersion", ctypes.byref(version))
    numbers = [ctypes.c_int() for _ in CAPABILITY]
    for number, attribute in zip(numbers, CAPABILITY, strict=True):
        ask("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    capability = ".".join(str(number.value) for number in numbers)
    return f"{name.value.decode()}, compute capability {capability}", driver_version(version.value)


def driver_version(cuda_version: int) -> str:
    """Version of the GPU's driver. `cuda_version`, such as 13000 of its CUDA, stands in where nothing tells it."""
    try:
        told = KERNEL_MODULE.read_text(encoding="utf-8")
    except OSError:  # not Linux, or Windows's subsystem
        import subprocess

        try:
            told = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=30).stdout
        except (OSError, subprocess.SubprocessError):
            told = ""
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", told)
    return found[0] if found else f"of CUDA {cuda_version // 1000}.{cuda_version % 1000 // 10}"


def _meaning(driver: ctypes.CDLL, status: int) -> str:
    name = ctypes.c_char_p()
    known = driver.cuGetErrorName(status, ctypes.byref(name)) == 0
    return name.value.decode() if known and name.value else "an unknown error"


CUDA_LIBRARIES = ("cudart", "nvrtc", "cublasLt", "cublas", "curand", "cufft", "cudnn")
TENSORRT_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
"""Libraries that ONNX Runtime's providers need, each after those that it needs itself."""

PACKAGES = (("nvidia", "*/lib"), ("tensorrt_libs", "."))
"""Python packages of NVIDIA's libraries, and where in them these lie."""


def load_libraries(names: Sequence[str]) -> None:
    """Load libraries of CUDA or TensorRT from NVIDIA's Python packages, wherever on the search path they lie.

    ONNX Runtime and cuda-python look for them beside themselves and in the system. Where they were installed into a
    folder of their own, CUDA's are beside PyTorch. A library that is in no package is left to the system.
    """
    for path in (path for name in names for path in _packaged(name)):
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            logger.info("%s is not loaded: %s", path, error)


def has_tensorrt() -> bool:
    """True where TensorRT's library is in NVIDIA's Python package or in the system."""
    from ctypes.util import find_library

    in_system = "nvinfer_10" if sys.platform == "win32" else "nvinfer"
    return any(_packaged("nvinfer")) or find_library(in_system) is not None


def _packaged(library: str) -> Iterator[Path]:
    for package, inside in PACKAGES:
        found = importlib.util.find_spec(package)
        for place in sorted(filter(None, found.submodule_search_locations or ())) if found else ():
            yield from sorted(Path(place).glob(f"{inside}/lib{library}.so.*"))
