"""The result of a segmentation: the labels of one image, as masks, pictures and figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from io import BytesIO
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.checks import checked_flag
from t2d_runtime.errors import ClassNamesError, OptionError
from t2d_runtime.image.windows import size_of
from t2d_runtime.results.label_map import LabelMap, label_counts, label_means
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.results.origin import Origin
from t2d_runtime.results.shapes.boxes import label_boxes
from t2d_runtime.words.text import listed

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL import Image
    from supervision import Detections

    from t2d_runtime.results.shapes.instances import Instance
    from t2d_runtime.results.shapes.polygons import Polygon
    from t2d_runtime.results.shapes.rle import RLE
    from t2d_runtime.results.shapes.table import Record

REPR_LABELS = 5
"""Most labels that a result's `repr` names; the largest come first."""


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
    confidence: NDArray[np.float32] | None = None
    """(H,W), 0 to 1: the score of the class or negative that won each pixel; None unless `keep_confidence` was given.
    Where no class exceeds its threshold, background wins with that threshold, or with the lowest where classes have
    their own."""
    origin: Origin | None = None
    """Digests, engine, prompts and words; None for a result that no segmenter made."""

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
            raise ClassNamesError(f"no label is called {name!r}, expected one of {listed(map(repr, self.class_names))}")
        mask: NDArray[np.bool_] = self.label_map == self.class_names.index(name)
        return mask

    def rle(self) -> dict[str, RLE]:
        """The mask of every label in COCO's compressed form: name -> {"size": [H, W], "counts": str}.

        It can be written as JSON, and is what `pycocotools.mask.encode` gives. `pycocotools.mask.decode` reads it.
        Raises MissingPackageError without the extra `shapes`.
        """
        from t2d_runtime.results.shapes.rle import rle_of_labels

        return dict(zip(self.class_names, rle_of_labels(self.label_map, len(self.class_names)), strict=True))

    @overload
    def polygons(self, name: str) -> list[Polygon]: ...

    @overload
    def polygons(self, name: None = None) -> dict[str, list[Polygon]]: ...

    def polygons(self, name: str | None = None) -> list[Polygon] | dict[str, list[Polygon]]:
        """The polygons of a label by its name, the largest first; without a name, those of every label by name.

        Each is a part whose pixels are connected through their sides: an `exterior` and `holes`, arrays (n,2) int32 of
        x, y. Points are corners of pixels, from (0, 0) to (W, H), so areas are numbers of pixels, and filling the
        polygons gives the mask back. shapely and rasterio take a polygon as it is.
        OpenCV and Pillow take points for centres of pixels and also fill those on the right and lower border.
        Raises ClassNamesError for an unknown name.
        """
        from t2d_runtime.results.shapes.polygons import polygons_of_labels, polygons_of_mask

        if name is not None:
            return polygons_of_mask(self.mask(name))
        of_labels = polygons_of_labels(self.label_map, len(self.class_names))
        return dict(zip(self.class_names, of_labels, strict=True))

    def instances(self, *, min_area: int = 1) -> list[Instance]:
        """Connected parts of the classes, each with its name, box, area, mask and mean score; background has none.

        They come label after label, the largest first. Parts of fewer than `min_area` pixels are left out. Pixels are
        connected through their sides. Objects of one class that touch are one part. Mean scores need `keep_confidence`.
        Raises OptionError for another `min_area` than a whole number from 1.
        """
        from t2d_runtime.results.shapes.instances import checked_min_area, instances_of

        min_area = checked_min_area(min_area)
        return instances_of(
            self.label_map, self.class_names, self.confidence, background=self.has_background, min_area=min_area
        )

    def to_supervision(self, *, instances: bool = False, min_area: int | None = None) -> Detections:
        """supervision's Detections: a detection for each class in the picture, without background.

        With `instances`, one for each connected part of at least `min_area` pixels. `class_id` is the label, and
        `data["class_name"]` its name; `confidence` is the mean score, with `keep_confidence`. Each detection has a mask
        (H,W), so many of them take much memory.
        Raises OptionError for a `min_area` without `instances`, MissingPackageError where supervision is missing.
        """
        from t2d_runtime.results.shapes.detections import Region, detections_of, regions_of_labels

        if checked_flag("instances", instances):
            parts = self.instances(min_area=1 if min_area is None else min_area)
            regions = [Region(part.label, part.name, part.box, part.mask, part.mean_score) for part in parts]
        elif min_area is not None:
            raise OptionError("min_area has no effect without instances=True; add that, or leave it out")
        else:
            regions = regions_of_labels(self.summary()["labels"], self.label_map, background=self.has_background)
        return detections_of(regions, size_of(self.label_map))

    def to_records(self) -> list[Record]:
        """A flat dictionary for each label, for tables: label, name, pixels, share, box and mean_score.

        The box is left, top, right, bottom in pixels, right and bottom exclusive. It is None where a label has no
        pixel. The mean score is None there, and without `keep_confidence`.
        """
        from t2d_runtime.results.shapes.table import records_of

        return records_of(self.summary()["labels"])

    def to_csv(self) -> str:
        """The records as CSV text with a header."""
        from t2d_runtime.results.shapes.table import csv_of

        return csv_of(self.to_records())

    def to_pandas(self) -> DataFrame:
        """The records as a pandas DataFrame. Raises MissingPackageError where pandas is missing."""
        from t2d_runtime.results.shapes.table import data_frame

        return data_frame(self.to_records())

    def overlay(self, *, legend: bool = True, font: str | PathLike[str] | None = None) -> Image.Image:
        """The image with its labels in colour, RGB, above a legend; without `legend`, of the image's own size.

        `font`: a TrueType or OpenType file for the legend's names. None takes Pillow's own font, and a system font for
        names with letters that it lacks.
        Raises OptionError for a font that cannot be read, a font given without a legend, and an image too thin for one.
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
        With `keep_confidence` each label has its mean score too.
        """
        height, width = self.label_map.shape
        counts = label_counts(self.label_map, len(self.class_names))
        boxes = label_boxes(self.label_map, len(self.class_names))
        means = None if self.confidence is None else label_means(self.label_map, counts, self.confidence)
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
                    **({} if means is None else {"mean_score": means[label]}),
                }
                for label, name in enumerate(self.class_names)
            ],
        }
