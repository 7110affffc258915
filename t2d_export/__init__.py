"""Talk2DINO to ONNX: the PyTorch reference, published weights, graphs, verification."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2d_export.export import ExportSettings, export_bundle

# ONNX Runtime reports usage to its makers unless this is set before its first import, which is the quantisation's here.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["ExportSettings", "export_bundle"]


def __getattr__(name: str) -> Any:
    # Imported at first use, so that the help and the building of engines need no PyTorch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from t2d_export import export

    return getattr(export, name)


def __dir__() -> list[str]:
    return list(__all__)
