"""The result of a segmentation: labels of one image, and what is made of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.results.label_map import LabelMap, label_boxes
from t2d_runtime.results.options import SegmentationSettings

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one image."""

    image: NDArray[np.uint8]
    """(H,W,3) RGB."""
    label_map: LabelMap
    """(H,W) at the image's own size; uint8 up to 256 labels, else uint16."""
    class_names: tuple[str, ...]
    """label -> name, "background" first where there is one."""
    scores: NDArray[np.float32] | None
    """(N,H,W), 0 to 1, the N classes without background; None unless asked for."""
    settings: SegmentationSettings
    negatives: tuple[str, ...] = ()
    """Phrases whose pixels became background."""

    @property
    def has_background(self) -> bool:
        """Whether label 0 is background: with `background=True`, or with negatives."""
        return self.settings.background or bool(self.negatives)

    def overlay(self) -> Image.Image:
        """The image with its labels in colour and a legend."""
        from t2d_runtime.results.visualize import overlay

        return overlay(self.image, self.label_map, self.class_names, background=self.has_background)

    def label_image(self) -> Image.Image:
        """The label map as a picture: palette mode up to 256 labels, else 16-bit grey."""
        from t2d_runtime.results.visualize import label_image

        return label_image(self.label_map, len(self.class_names), background=self.has_background)

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
