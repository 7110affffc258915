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
    return [name for name, module in MODULES.items() if is_installed(module)]


def is_installed(module: str) -> bool:
    """Whether a module can be imported; a folder without code, as of type stubs alone, is none."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def open_backend(name: str) -> Backend:
    """Open a backend; `auto` takes the first of AUTO_ORDER that is installed and logs its choice.

    Raises OptionError for an unknown name, BackendUnavailableError where it is not installed.
    """
    if name == "auto":
        name = _auto_candidates()[0]
        logger.info("backend auto: %s, the first of %s that is installed", name, list(AUTO_ORDER))
    if name not in MODULES:
        raise OptionError(f"unknown backend {name!r}, expected one of {['auto', *MODULES]}")
    if not is_installed(MODULES[name]):
        installed = ", ".join(installed_backends()) or "none"
        raise BackendUnavailableError(
            f"backend {name!r} is not installed (installed: {installed}); install t2d-runtime[{EXTRAS[name]}]"
        )
    if name == "openvino":
        from t2d_runtime.backends.openvino import OpenVinoBackend

        return OpenVinoBackend()
    from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(name)


def open_candidates(name: str) -> list[Backend]:
    """The backend of a name; with `auto`, all of AUTO_ORDER that are installed. Raises as `open_backend`."""
    return [open_backend(candidate) for candidate in (_auto_candidates() if name == "auto" else [name])]


def _auto_candidates() -> list[str]:
    found = [candidate for candidate in AUTO_ORDER if is_installed(MODULES[candidate])]
    if not found:
        raise BackendUnavailableError(
            "no inference engine is installed; install t2d-runtime[cpu] (ONNX Runtime) or t2d-runtime[openvino]"
        )
    return found
