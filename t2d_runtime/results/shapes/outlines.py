"""Connected parts of all labels with their polygons and figures, as files of annotations hold them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.results.shapes.parts import parts_of
from t2d_runtime.results.shapes.polygons import Polygon, polygons_of


class Outline(NamedTuple):
    """A connected part of a label, of background too."""

    label: int
    name: str
    area: int
    """Pixels."""
    mean_score: float | None
    """Mean of the winning scores, 0 to 1, to six digits; None where the result has no confidence."""
    polygon: Polygon


def outlines_of(result: Segmentation) -> list[Outline]:
    """The connected parts of a result, label after label, the largest first."""
    parts = parts_of(result.label_map)
    polygons = polygons_of(result.label_map, parts)
    means = None if result.confidence is None else parts.means(result.confidence)
    return [
        Outline(
            label=int(parts.labels[part]),
            name=result.class_names[parts.labels[part]],
            area=int(parts.areas[part]),
            mean_score=None if means is None else round(float(means[part]), 6),
            polygon=polygons[part],
        )
        for part in np.lexsort((-parts.areas, parts.labels)).tolist()
    ]
