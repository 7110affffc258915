"""An encoded image: its windows and their features, which any words can segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.features import ImageFeatures
from t2d_runtime.image.windows import Window, WindowMode


@dataclass(frozen=True, eq=False)
class ImageEncoding:
    """An encoded image, to be segmented with many words without encoding it again. Arrays are read-only."""

    image: NDArray[np.uint8]
    """(H,W,3) RGB, the image as given."""
    resized: NDArray[np.uint8]
    """(H',W',3) RGB, the picture that the windows were cut from."""
    windows: tuple[Window, ...]
    """W windows in pixels of `resized`."""
    features: ImageFeatures
    """Features of the windows; in a GPU's memory where the masks are computed there too."""
    window_mode: WindowMode
    model_digest: str
    """Identity of the image encoder, the same for every precision."""
    backend: str
    precision: str
    engine: str | None = None
    """Engine, version and device; None where they are not known."""

    def __post_init__(self) -> None:
        self.image.flags.writeable = self.resized.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickled arrays are read-only too."""
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def patch_tokens(self) -> NDArray[np.float32]:
        """(W,h,w,D) float32. Features on a GPU are copied from it the first time; BackendError where that fails."""
        return self.features.patch_tokens

    @property
    def cls_attention(self) -> NDArray[np.float32]:
        """(W,M,h,w) float32, logits before softmax; as `patch_tokens`."""
        return self.features.cls_attention

    @property
    def nbytes(self) -> int:
        """Bytes of the pictures and, once, of the features, wherever they lie."""
        return self.image.nbytes + self.resized.nbytes + self.features.sizes.nbytes

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        sizes = self.features.sizes
        return (
            f"ImageEncoding({height} x {width} pixels, {len(self.windows)} windows ({self.window_mode}), "
            f"patch_tokens {(sizes.windows, *sizes.grid, sizes.width)}, {self.backend} {self.precision})"
        )
