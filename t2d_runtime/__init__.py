"""Talk2DINO without PyTorch: segment any image by any words you type.

from t2d_runtime import Segmenter

segmenter = Segmenter.open("bundle/")
classes = segmenter.encode_classes(["cat", "grass"])
segmenter.segment("photo.jpg", classes).overlay().save("overlay.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2d_runtime.bundle.manifest import PamrSettings
    from t2d_runtime.errors import T2DError
    from t2d_runtime.fused import FusedSegmenter
    from t2d_runtime.image.encoding import ImageEncoding
    from t2d_runtime.image.reading import load_image
    from t2d_runtime.results.segmentation import Segmentation
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.words.vocabulary import ClassEmbeddings

__version__ = "0.2.0.dev0"

# Imported at first use, so that `import t2d_runtime` costs an application's start nothing.
_HOMES = {
    "ClassEmbeddings": "t2d_runtime.words.vocabulary",
    "FusedSegmenter": "t2d_runtime.fused",
    "ImageEncoding": "t2d_runtime.image.encoding",
    "PamrSettings": "t2d_runtime.bundle.manifest",
    "Segmentation": "t2d_runtime.results.segmentation",
    "Segmenter": "t2d_runtime.segmenter",
    "T2DError": "t2d_runtime.errors",
    "load_image": "t2d_runtime.image.reading",
}

__all__ = [
    "ClassEmbeddings",
    "FusedSegmenter",
    "ImageEncoding",
    "PamrSettings",
    "Segmentation",
    "Segmenter",
    "T2DError",
    "load_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
