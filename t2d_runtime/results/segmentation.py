"""The result of a segmentation: the labels of one image, as masks, pictures and figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from io import BytesIO
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import ClassNamesError
from t2d_runtime.results.label_map import LabelMap, label_boxes, label_counts
from t2d_runtime.results.options import SegmentationSettings, checked_flag

if TYPE_CHECKING:
    from PIL import Image

REPR_LABELS = 5
"""Most labels that a result's `repr` names; the largest come first."""

NAMES_SHOWN = 20
"""Most names that an error lists."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one image."""

    image: NDArray[np.uint8]
    """(H,W,3) RGB."""
    label_map: LabelMap
    """(H,W) at the image's own size; uint8 up to 256 labels, else uint16."""
    class_names: tuple[str, ...]
    """Label -> name; "background" first where there is one."""
    scores: NDArray[np.float32] | None
    """(N,H,W), 0 to 1, of the N classes without background; None unless `keep_scores` was given."""
    settings: SegmentationSettings
    negatives: tuple[str, ...] = ()
    """Phrases whose pixels became background."""

    @property
    def has_background(self) -> bool:
        """True where label 0 is background: with `background=True`, or with negatives."""
        return self.settings.background or bool(self.negatives)

    def __repr__(self) -> str:
        height, width = self.label_map.shape
        counts = label_counts(self.label_map, len(self.class_names))
        largest = [label for label in np.argsort(-counts, kind="stable")[:REPR_LABELS] if counts[label]]
        shares = ", ".join(f"{self.class_names[label]} {counts[label] / (height * width):.1%}" for label in largest)
        more = np.count_nonzero(counts) - len(largest)
        scores = "" if self.scores is None else ", with scores"
        return (
            f"Segmentation({height} x {width} pixels, {len(self.class_names)} labels: {shares}"
            f"{f' and {more} more' if more else ''}{scores})"
        )

    def _repr_png_(self) -> bytes:
        """The overlay as PNG, for notebooks."""
        stream = BytesIO()
        self.overlay().save(stream, "PNG")
        return stream.getvalue()

    def mask(self, name: str) -> NDArray[np.bool_]:
        """The mask (H,W) bool of a label, by its name in `class_names`. Raises ClassNamesError for another name."""
        if name not in self.class_names:
            known = ", ".join(map(repr, self.class_names[:NAMES_SHOWN]))
            more = len(self.class_names) - NAMES_SHOWN
            raise ClassNamesError(
                f"no label is called {name!r}, expected one of {known}{f' and {more} more' if more > 0 else ''}"
            )
        mask: NDArray[np.bool_] = self.label_map == self.class_names.index(name)
        return mask

    def overlay(self, *, legend: bool = True, font: str | PathLike[str] | None = None) -> Image.Image:
        """The image with its labels in colour, RGB, above a legend; without `legend`, of the image's own size.

        `font`: a TrueType or OpenType file for the legend's names. None takes Pillow's own font, and a system font for
        names with letters that it lacks.
        Raises OptionError for a font that cannot be read, or a font given without a legend.
        """
        from t2d_runtime.results.visualize import overlay

        checked_flag("legend", legend)
        return overlay(
            self.image,
            self.label_map,
            self.class_names,
            background=self.has_background,
            legend=bool(legend),
            font=font,
        )

    def label_image(self) -> Image.Image:
        """The label map as a picture whose values are the labels: palette mode up to 256 labels, else 16-bit grey.

        Saved as PNG, a palette always takes 8 bits a pixel, even for few labels.
        """
        from t2d_runtime.results.visualize import label_image

        return label_image(self.label_map, len(self.class_names), background=self.has_background)

    def summary(self) -> dict[str, Any]:
        """The content of the JSON output: size, settings, and each label's name, pixel count, share and box.

        A box is [left, top, right, bottom] in pixels, right and bottom exclusive; None where the label has no pixel.
        """
        height, width = self.label_map.shape
        counts = label_counts(self.label_map, len(self.class_names))
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
