"""Backends by name: which exist, what each needs, and how to install it. Standard library alone.

A new backend is one file with a class of `t2d_runtime.backends.base.Backend`, and one entry of BACKENDS.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from t2d_runtime.device.install import how_to_install


@dataclass(frozen=True)
class BackendFacts:
    """Facts about one backend that are known without importing its engine."""

    home: str
    """Module and class, as "package.module:Class". The class is called with the backend's name."""
    modules: tuple[str, ...]
    """Python modules; the backend needs one of them."""
    install: str
    """The end of an error message: how to install the backend."""
    packages: tuple[str, ...] = ()
    """Packages that bring the module; their versions are the engine's. Empty where they are not on a package index."""
    automatic: bool = False
    """True where `auto` may choose it: an engine for the CPU. An export tests it where it is installed."""
    built: bool = False
    """True where it runs only engines that 't2d-export engine' built."""


_ONNXRUNTIME = "t2d_runtime.backends.onnxruntime:OnnxRuntimeBackend"
_ONNXRUNTIME_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
_TENSORRT = "t2d_runtime.backends.tensorrt:TensorRtBackend"
_NVIDIA = f"{how_to_install('tensorrt')}, or install NVIDIA's TensorRT 10 or 11 with its Python bindings"
_NVIDIA_RTX = (
    "install NVIDIA's TensorRT for RTX, or its libraries and bindings with 'pip install --no-deps "
    "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0 tensorrt-rtx-cu13-bindings==1.7.1.116'"
)

BACKENDS = {
    "openvino": BackendFacts(
        "t2d_runtime.backends.openvino:OpenVinoBackend",
        ("openvino",),
        how_to_install("openvino"),
        ("openvino",),
        automatic=True,
    ),
    "onnxruntime": BackendFacts(
        _ONNXRUNTIME, ("onnxruntime",), how_to_install("cpu"), _ONNXRUNTIME_PACKAGES, automatic=True
    ),
    "onnxruntime-cuda": BackendFacts(_ONNXRUNTIME, ("onnxruntime",), how_to_install("gpu"), _ONNXRUNTIME_PACKAGES),
    "onnxruntime-tensorrt": BackendFacts(_ONNXRUNTIME, ("onnxruntime",), how_to_install("gpu"), _ONNXRUNTIME_PACKAGES),
    "tensorrt": BackendFacts(_TENSORRT, ("tensorrt",), _NVIDIA, ("tensorrt",), built=True),
    "tensorrt-rtx": BackendFacts(
        _TENSORRT,
        ("tensorrt_rtx", "tensorrt_rtx_bindings"),
        _NVIDIA_RTX,
        ("tensorrt-rtx-cu13-bindings",),
        built=True,
    ),
}
"""Every backend by its name."""

AUTOMATIC = tuple(name for name, facts in BACKENDS.items() if facts.automatic)
"""Backends that `auto` may take; `registry.auto_order` puts them in order."""


def installed_module(backend: str) -> str | None:
    """The first installed module of a backend. A folder without code, such as one of type stubs, does not count."""
    specs = ((name, importlib.util.find_spec(name)) for name in BACKENDS[backend].modules)
    return next((name for name, spec in specs if spec is not None and spec.origin is not None), None)


def engine_version(backend: str) -> str | None:
    """Version of a backend's engine, which is not imported; None where it is not installed, "unknown" without one."""
    if installed_module(backend) is None:
        return None
    from t2d_runtime.device.machine import installed_version

    versions = [version for name in BACKENDS[backend].packages if (version := installed_version(name)) is not None]
    return ", ".join(versions) or "unknown"
