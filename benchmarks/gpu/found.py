"""Search for all that a GPU needs on this machine: driver, CUDA, packages. Imports nothing large."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field

from t2d_runtime.backends.names import BACKENDS, installed_module
from t2d_runtime.backends.onnxruntime import NO_TENSORRT, TENSORRT
from t2d_runtime.device.machine import installed_version
from t2d_runtime.device.nvidia import gpu, has_tensorrt
from t2d_runtime.device.onnxruntimes import conflict
from t2d_runtime.errors import BackendUnavailableError

PACKAGES = (
    "torch",
    "onnxruntime-gpu",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "tensorrt-rtx-cu13-bindings",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "cuda-python",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "open_clip_torch",
    "timm",
)
GPU_BACKENDS = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Found:
    """The machine's GPU and software; None stands for what is not there."""

    gpu: str | None
    """Name and compute capability of GPU 0."""
    driver: str | None
    missing: str | None
    """The reason why no GPU answers."""
    packages: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Backend -> what it needs, for those whose module is not installed."""
    warnings: tuple[str, ...] = ()
    """Faults of the packages, and their repair."""

    @property
    def capability(self) -> str:
        """Compute capability such as 9.0."""
        return (self.gpu or "").rpartition(" ")[2]


def find() -> Found:
    """Look at this machine."""
    name, driver, missing = None, None, None
    try:
        name, driver = gpu()
    except BackendUnavailableError as error:
        missing = str(error)
    absent = {backend: BACKENDS[backend].install for backend in GPU_BACKENDS if installed_module(backend) is None}
    packages = {name: version for name in PACKAGES if (version := installed_version(name)) is not None}
    if "onnxruntime-gpu" not in packages:
        absent |= {name: BACKENDS[name].install for name in GPU_BACKENDS if name.startswith("onnxruntime")}
    elif not has_tensorrt():
        absent[TENSORRT] = NO_TENSORRT
    if importlib.util.find_spec("torch") is None:
        absent["pytorch"] = "install PyTorch with CUDA"
    return Found(name, driver, missing, packages, absent, tuple(conflict()))
