"""Backends by name: which exist, which are installed, and which one `auto` takes."""

from __future__ import annotations

import importlib.util
import logging

from t2d_runtime.backends.base import Backend
from t2d_runtime.errors import BackendUnavailableError, OptionError

logger = logging.getLogger(__name__)

MODULES = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
    "onnxruntime-cuda": ("onnxruntime",),
    "onnxruntime-tensorrt": ("onnxruntime",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Backend -> the modules of which it needs one."""

INSTALL = {
    "openvino": "install t2d-runtime[openvino]",
    "onnxruntime": "install t2d-runtime[cpu]",
    "onnxruntime-cuda": "install t2d-runtime[gpu]",
    "onnxruntime-tensorrt": "install t2d-runtime[gpu]",
    "tensorrt": "install t2d-runtime[tensorrt], or NVIDIA's TensorRT 10 or 11 with its Python bindings",
    "tensorrt-rtx": (
        "install NVIDIA's TensorRT for RTX, or its libraries and bindings with 'pip install --no-deps "
        "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0 tensorrt-rtx-cu13-bindings==1.7.1.116'"
    ),
}
"""Backend -> what makes it available."""

AUTO_ORDER = ("openvino", "onnxruntime")
"""Fastest first, measured on CPUs with float32 graphs (benchmarks/LOG.md)."""


def installed_backends() -> list[str]:
    """Names of the backends of which a module is installed."""
    return [name for name in MODULES if installed_module(name) is not None]


def installed_module(backend: str) -> str | None:
    """The first module of a backend that is installed; a folder without code, as of type stubs alone, is none."""
    specs = ((name, importlib.util.find_spec(name)) for name in MODULES[backend])
    return next((name for name, spec in specs if spec is not None and spec.origin is not None), None)


def open_backend(name: str) -> Backend:
    """Open a backend; `auto` takes the first of AUTO_ORDER that is installed and logs its choice.

    Raises OptionError for an unknown name, BackendUnavailableError where it is not installed.
    """
    if name == "auto":
        name = _auto_candidates()[0]
        logger.info("backend auto: %s, the first of %s that is installed", name, list(AUTO_ORDER))
    if name not in MODULES:
        raise OptionError(f"unknown backend {name!r}, expected one of {['auto', *MODULES]}")
    if installed_module(name) is None:
        installed = ", ".join(installed_backends()) or "none"
        raise BackendUnavailableError(f"backend {name!r} is not installed (installed: {installed}); {INSTALL[name]}")
    if name == "openvino":
        from t2d_runtime.backends.openvino import OpenVinoBackend

        return OpenVinoBackend()
    if name.startswith("tensorrt"):
        from t2d_runtime.backends.tensorrt import TensorRtBackend

        return TensorRtBackend(name)
    from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(name)


def open_candidates(name: str) -> list[Backend]:
    """The backend of a name; with `auto`, all of AUTO_ORDER that are installed. Raises as `open_backend`."""
    return [open_backend(candidate) for candidate in (_auto_candidates() if name == "auto" else [name])]


def _auto_candidates() -> list[str]:
    found = [candidate for candidate in AUTO_ORDER if installed_module(candidate) is not None]
    if not found:
        raise BackendUnavailableError(
            "no inference engine is installed; install t2d-runtime[cpu] (ONNX Runtime) or t2d-runtime[openvino]"
        )
    return found
