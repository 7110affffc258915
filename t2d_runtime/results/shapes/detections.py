"""Results in the form of supervision, whose annotators, trackers and zones take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.install import needs_package
from t2d_runtime.results.label_map import LabelMap

if TYPE_CHECKING:
    from supervision import Detections


class Region(NamedTuple):
    """A part of a picture that becomes a detection: a label, or a connected part of one."""

    label: int
    name: str
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels; right and bottom exclusive."""
    mask: NDArray[np.bool_]
    """(h,w) inside the box."""
    mean_score: float | None


def regions_of_labels(labels: Sequence[Mapping[str, Any]], label_map: LabelMap, *, background: bool) -> list[Region]:
    """The labels of a `Segmentation.summary` that have pixels in the map (H,W), without background."""
    found = []
    for label in labels[int(background) :]:
        if label["box"] is not None:
            left, top, right, bottom = label["box"]
            mask = label_map[top:bottom, left:right] == label["label"]
            box = (left, top, right, bottom)
            found.append(Region(label["label"], label["name"], box, mask, label.get("mean_score")))
    return found


def detections_of(regions: Sequence[Region], size: tuple[int, int]) -> Detections:
    """supervision's Detections of regions of a picture of this (height, width).

    Raises MissingPackageError where supervision is missing.
    """
    with needs_package("supervision"):
        import supervision as sv
    masks = np.zeros((len(regions), *size), bool)
    for mask, region in zip(masks, regions, strict=True):
        left, top, right, bottom = region.box
        mask[top:bottom, left:right] = region.mask
    means = [region.mean_score for region in regions if region.mean_score is not None]
    return sv.Detections(
        xyxy=np.array([region.box for region in regions], np.float32).reshape(-1, 4),
        mask=masks,
        confidence=np.array(means, np.float32) if len(means) == len(regions) else None,
        class_id=np.array([region.label for region in regions], np.intp),
        data={"class_name": np.array([region.name for region in regions], dtype=np.str_)},
    )
