"""Results in the form of supervision, whose annotators, trackers and zones take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.install import needs_package
from t2d_runtime.results.label_map import LabelMap, label_boxes

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


def regions_of_labels(label_map: LabelMap, class_names: Sequence[str], *, background: bool) -> list[Region]:
    """The labels of a map (H,W) that have pixels, without background."""
    found = []
    for label, box in enumerate(label_boxes(label_map, len(class_names))):
        if box is not None and not (background and label == 0):
            left, top, right, bottom = box
            mask = label_map[top:bottom, left:right] == label
            found.append(Region(label, class_names[label], (left, top, right, bottom), mask))
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
    return sv.Detections(
        xyxy=np.array([region.box for region in regions], np.float32).reshape(-1, 4),
        mask=masks,
        class_id=np.array([region.label for region in regions], np.intp),
        data={"class_name": np.array([region.name for region in regions], dtype=np.str_)},
    )
