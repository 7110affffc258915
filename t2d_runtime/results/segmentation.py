"""What segmentation takes and gives: encoded images, settings, and results."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.windows import Window

if TYPE_CHECKING:
    from PIL import Image

MAX_LABELS = 2**16
"""Labels that a label map can hold, background included."""

BACKGROUND = "background"
"""Name of label 0 where background is on."""

Cleaning = Literal["official", "paper"]
WindowMode = Literal["slide", "whole"]


@dataclass(frozen=True, eq=False)
class ImageEncoding:
    """An encoded image: segmented again with other words at no encoding cost. Arrays are read-only."""

    image: NDArray[np.uint8]
    """(H,W,3) RGB, the image as given."""
    resized: NDArray[np.uint8]
    """(H',W',3) RGB, what the windows were cut from."""
    windows: tuple[Window, ...]
    """W windows in pixels of `resized`."""
    patch_tokens: NDArray[np.float32]
    """(W,h,w,D)."""
    cls_attention: NDArray[np.float32]
    """(W,M,h,w) logits before softmax."""
    window_mode: WindowMode
    model_digest: str
    """Identity of the image encoder, in whatever precision it ran."""
    backend: str
    precision: str

    def __post_init__(self) -> None:
        for array in (self.image, self.resized, self.patch_tokens, self.cls_attention):
            array.flags.writeable = False


class SegmentOptions(TypedDict, total=False):
    """The options of `Segmenter.segment`, which says what they mean."""

    background: bool
    cleaning: bool | Cleaning | None
    threshold: float | None
    cleaning_weight: float | None
    refine: bool
    window: WindowMode
    keep_scores: bool


@dataclass(frozen=True)
class SegmentationSettings:
    """Everything besides image and words that decides the labels."""

    background: bool
    cleaning: Cleaning | None
    threshold: float
    cleaning_weight: float
    refine: bool
    window: WindowMode
    backend: str
    precision: str


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one image."""

    image: NDArray[np.uint8]
    """(H,W,3) RGB."""
    label_map: NDArray[np.uint8] | NDArray[np.uint16]
    """(H,W) at the image's own size; uint8 up to 256 labels, else uint16."""
    class_names: tuple[str, ...]
    """label -> name, "background" first where there is one."""
    scores: NDArray[np.float32] | None
    """(N,H,W), 0 to 1, the N classes without background; None unless asked for."""
    settings: SegmentationSettings

    def overlay(self) -> Image.Image:
        """The image with its labels in colour and a legend."""
        from t2d_runtime.results.visualize import overlay

        return overlay(self.image, self.label_map, self.class_names, background=self.settings.background)

    def label_image(self) -> Image.Image:
        """The label map as a picture: palette mode up to 256 labels, else 16-bit grey."""
        from t2d_runtime.results.visualize import label_image

        return label_image(self.label_map, len(self.class_names), background=self.settings.background)

    def summary(self) -> dict[str, Any]:
        """What the JSON output holds: size, settings, and per label its name, pixel count, share and box.

        A box is [left, top, right, bottom] in pixels, right and bottom exclusive, None where the label has no
        pixel.
        """
        height, width = self.label_map.shape
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.class_names))
        boxes = label_boxes(self.label_map, len(self.class_names))
        return {
            "height": height,
            "width": width,
            "settings": asdict(self.settings),
            "labels": [
                {
                    "label": label,
                    "name": name,
                    "pixels": int(counts[label]),
                    "share": round(int(counts[label]) / (height * width), 6),
                    "box": boxes[label],
                }
                for label, name in enumerate(self.class_names)
            ],
        }


def label_boxes(label_map: NDArray[Any], num_labels: int) -> list[list[int] | None]:
    """Bounding box [left, top, right, bottom] of every label, None where it has no pixel."""
    height, width = label_map.shape
    flat = label_map.astype(np.intp)
    in_row = np.zeros((height, num_labels), dtype=bool)
    in_row[np.arange(height)[:, None], flat] = True
    in_column = np.zeros((width, num_labels), dtype=bool)
    in_column[np.arange(width)[None, :], flat] = True
    boxes: list[list[int] | None] = []
    for label in range(num_labels):
        rows, columns = np.flatnonzero(in_row[:, label]), np.flatnonzero(in_column[:, label])
        if len(rows) == 0:
            boxes.append(None)
        else:
            boxes.append([int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1])
    return boxes
