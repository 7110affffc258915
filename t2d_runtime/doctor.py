"""What is installed, what each backend can do here, and how to repair what it cannot."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator

from t2d_runtime import __version__
from t2d_runtime.backends.registry import EXTRAS, MODULES, open_backend
from t2d_runtime.errors import T2DError

RUNTIME_PACKAGES = ("numpy", "pillow", "tokenizers", "regex", "ftfy")
ENGINE_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino")


def examine() -> Iterator[str]:
    """Lines of the report: versions, then a verdict a backend."""
    yield f"t2d-runtime {__version__}, Python {platform.python_version()}, {platform.platform()}"
    for package in (*RUNTIME_PACKAGES, *ENGINE_PACKAGES):
        yield f"  {package:<16} {_version(package) or 'not installed'}"
    yield from _onnxruntime_conflict()
    for name in MODULES:
        try:
            yield f"  {name:<20} ready: {open_backend(name).identity}"
        except T2DError as error:
            yield f"  {name:<20} no: {error}"


def _onnxruntime_conflict() -> Iterator[str]:
    """onnxruntime and onnxruntime-gpu install one module: the later one overwrites the other's files."""
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        pip = f"{sys.executable} -m pip"
        yield "  onnxruntime and onnxruntime-gpu are both installed and overwrite each other. To repair:"
        yield f"    {pip} uninstall -y onnxruntime onnxruntime-gpu && {pip} install 't2d-runtime[gpu]'"
        yield f"    (or 't2d-runtime[{EXTRAS['onnxruntime']}]' on a machine without an NVIDIA GPU)"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
