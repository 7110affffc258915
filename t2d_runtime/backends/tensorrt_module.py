"""The Python modules of TensorRT and of TensorRT for RTX, which share one interface."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from t2d_runtime.backends.names import BACKENDS, installed_module
from t2d_runtime.errors import BackendUnavailableError

RTX_LIBRARIES = ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so")

RTX_CARRIER = "onnxruntime_ep_nv_tensorrt_rtx"
"""ONNX Runtime's plugin for TensorRT for RTX. It contains the libraries, which the bindings lack."""


def load_tensorrt(backend: str) -> Any:
    """The module of "tensorrt" or "tensorrt-rtx". Raises BackendUnavailableError, which says what to install."""
    name = installed_module(backend)
    if name is None:
        raise BackendUnavailableError(f"backend {backend!r} is not installed; {BACKENDS[backend].install}")
    try:
        if name == "tensorrt_rtx_bindings":
            _load_rtx_libraries()
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise BackendUnavailableError(f"{name} cannot be imported ({error}); {BACKENDS[backend].install}") from error


def make_logger(trt: Any, tell: Callable[[str], object]) -> Any:
    """A logger that passes on TensorRT's warnings and errors. It must outlive every object made with it."""

    class Telling(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the bindings need this form

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING:
                tell(message)

    return Telling()


def _load_rtx_libraries() -> None:
    spec = importlib.util.find_spec(RTX_CARRIER)
    if spec is None or spec.origin is None:
        raise ImportError(f"no module {RTX_CARRIER}, which carries the libraries")
    folder = Path(spec.origin).parent
    for name in RTX_LIBRARIES:
        found = sorted(folder.glob(f"{name}.*"))
        if not found:
            raise ImportError(f"no {name} in {folder}")
        ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)
