"""The NVIDIA GPU of this machine, asked through the driver alone, and CUDA's libraries from Python packages."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import subprocess
from pathlib import Path

from t2d_runtime.errors import BackendUnavailableError

logger = logging.getLogger(__name__)

QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader", "--id=0")


def gpu() -> tuple[str, str]:
    """Name with compute capability, and driver version, of GPU 0. Raises BackendUnavailableError without one."""
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=30)
        name, capability, driver = (field.strip() for field in done.stdout.strip().split(","))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise BackendUnavailableError(
            f"no NVIDIA GPU answers ({error}); install its driver, see 'nvidia-smi'"
        ) from error
    return f"{name}, compute capability {capability}", driver


LIBRARIES = ("cudart", "nvrtc", "cublasLt", "cublas", "curand", "cufft", "cudnn")
"""CUDA's libraries that ONNX Runtime's providers need, each after those that it needs itself."""


def load_cuda_libraries() -> None:
    """Load CUDA's libraries from NVIDIA's Python packages, wherever on the search path they lie.

    ONNX Runtime looks for them beside itself and in the system. Where it was installed into a folder of its own, they
    are beside PyTorch. A library that is in no package is left to the system.
    """
    found = importlib.util.find_spec("nvidia")
    folders = sorted(Path(place) for place in (found.submodule_search_locations or ()) if place) if found else []
    for name in LIBRARIES:
        for path in (path for folder in folders for path in sorted(folder.glob(f"*/lib/lib{name}.so.*"))):
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                logger.info("%s is not loaded: %s", path, error)
