"""Backends by name: which exist, which are installed, and which one `auto` takes."""

from __future__ import annotations

import importlib.util
import logging

from t2d_runtime.backends.base import Backend
from t2d_runtime.errors import BackendUnavailableError, OptionError

logger = logging.getLogger(__name__)

MODULES = {
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "onnxruntime-cuda": "onnxruntime",
    "onnxruntime-tensorrt": "onnxruntime",
}
"""Backend -> the module it needs."""

EXTRAS = {
    "openvino": "openvino",
    "onnxruntime": "cpu",
    "onnxruntime-cuda": "gpu",
    "onnxruntime-tensorrt": "gpu",
}
"""Backend -> the extra of t2d-runtime that installs it."""

AUTO_ORDER = ("openvino", "onnxruntime")
"""Fastest first, measured on CPUs with float32 graphs (benchmarks/LOG.md)."""


def installed_backends() -> list[str]:
    """Names of the backends whose module is installed."""
    return [name for name, module in MODULES.items() if importlib.util.find_spec(module) is not None]


def open_backend(name: str) -> Backend:
    """Open a backend; `auto` takes the first of AUTO_ORDER that is installed and logs its choice.

    Raises OptionError for an unknown name, BackendUnavailableError where it is not installed.
    """
    installed = installed_backends()
    if name == "auto":
        found = [candidate for candidate in AUTO_ORDER if candidate in installed]
        if not found:
            raise BackendUnavailableError(
                "no inference engine is installed; install t2d-runtime[cpu] (ONNX Runtime) or t2d-runtime[openvino]"
            )
        logger.info("backend auto: %s, the first of %s that is installed", found[0], list(AUTO_ORDER))
        name = found[0]
    if name not in MODULES:
        raise OptionError(f"unknown backend {name!r}, expected one of {['auto', *MODULES]}")
    if name not in installed:
        raise BackendUnavailableError(
            f"backend {name!r} is not installed (installed: {installed or 'none'}); install t2d-runtime[{EXTRAS[name]}]"
        )
    if name == "openvino":
        from t2d_runtime.backends.openvino import OpenVinoBackend

        return OpenVinoBackend()
    from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(name)
