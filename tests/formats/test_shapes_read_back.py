"""Masks, polygons and tables of a result, read by the tools that they are for."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import supervision as sv
from numpy.typing import NDArray
from pycocotools import mask as coco
from rasterio import features
from shapely import is_valid_reason
from shapely.geometry import shape

from t2d_runtime import Segmentation
from t2d_runtime.results.options import SegmentationSettings

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
"""pycocotools 2.0 reads arrays in NumPy's old way."""


def result_of(labels: NDArray[Any], *, background: bool) -> Segmentation:
    settings = SegmentationSettings(background, None, 0.5, 1.0, None, "slide", "none", "fp32")
    image = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3), np.uint8)
    names = ("background" if background else "grass", "cat", "dog", "sky")
    confidence = np.random.default_rng(1).random(labels.shape, np.float32)
    return Segmentation(image, labels.astype(np.uint8), names, None, settings, confidence=confidence)


def blobs(seed: int, side: int) -> NDArray[np.int64]:
    """Labels in patches of a few pixels' side, with holes, corners that meet, and parts at the border."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (9, 11)).repeat(side, axis=0).repeat(side, axis=1)


@pytest.fixture(params=[(0, 1), (1, 1), (2, 3)], ids=str)
def result(request: pytest.FixtureRequest) -> Segmentation:
    return result_of(blobs(*request.param), background=True)


def test_shapely_finds_every_polygon_valid_and_as_large_as_its_pixels(result: Segmentation) -> None:
    for name, polygons in result.polygons().items():
        shapes = [shape(polygon) for polygon in polygons]
        assert [is_valid_reason(one) for one in shapes] == ["Valid Geometry"] * len(shapes)
        assert sum(one.area for one in shapes) == result.mask(name).sum()
    classes = [polygons for name, polygons in result.polygons().items() if name != "background"]
    parts = [shape(polygon) for polygons in classes for polygon in polygons]
    assert [(one.bounds, one.area) for one in parts] == [(part.box, part.area) for part in result.instances()]


def test_rasterio_gives_the_masks_back(result: Segmentation) -> None:
    burned = np.full(result.label_map.shape, 255, np.uint8)
    for label, polygons in enumerate(result.polygons().values()):
        features.rasterize([(polygon, label) for polygon in polygons], out=burned)
    np.testing.assert_array_equal(burned, result.label_map)


def test_pycocotools_fills_polygons_without_holes_to_the_same_pixels() -> None:
    """Its polygons have no holes, so those are taken away again."""
    result = result_of(blobs(4, 3), background=False)
    for name, polygons in result.polygons().items():
        mask = np.zeros(result.label_map.shape, np.int64)
        for polygon in polygons:
            for sign, rings in ((1, [polygon.exterior]), (-1, list(polygon.holes))):
                for ring in rings:
                    (code,) = coco.frPyObjects([ring.reshape(-1).astype(float).tolist()], *mask.shape)
                    mask += sign * coco.decode(code).astype(np.int64)
        np.testing.assert_array_equal(mask, result.mask(name))


def test_supervision_draws_a_detection_for_each_class(result: Segmentation) -> None:
    detections = result.to_supervision()
    present = [label for label in (1, 2, 3) if (result.label_map == label).any()]
    assert detections.class_id is not None
    assert detections.class_id.tolist() == present
    assert list(detections.data["class_name"]) == [result.class_names[label] for label in present]
    means = [label["mean_score"] for label in result.summary()["labels"]]
    np.testing.assert_allclose(detections.confidence, [means[label] for label in present], atol=1e-6)
    assert detections.mask is not None
    for mask, box, label in zip(np.asarray(detections.mask), detections.xyxy, present, strict=True):
        np.testing.assert_array_equal(mask, result.label_map == label)
        np.testing.assert_array_equal(box, sv.mask_to_xyxy(mask[np.newaxis])[0] + [0, 0, 1, 1])
    drawn = sv.MaskAnnotator().annotate(result.image.copy(), detections)
    changed = (drawn != result.image).any(axis=2)
    assert not changed[result.label_map == 0].any()
    assert changed[result.label_map != 0].mean() > 0.9
    sv.LabelAnnotator().annotate(sv.BoxAnnotator().annotate(drawn, detections), detections)


def test_supervision_takes_connected_parts(result: Segmentation) -> None:
    detections = result.to_supervision(instances=True, min_area=2)
    parts = result.instances(min_area=2)
    assert len(detections) == len(parts) > 3
    np.testing.assert_array_equal(detections.area, [part.area for part in parts])
    np.testing.assert_array_equal(detections.xyxy, [part.box for part in parts])
    np.testing.assert_allclose(detections.confidence, [part.mean_score for part in parts])
    without = replace(result, confidence=None)
    assert without.to_supervision(instances=True).confidence is None
    assert without.to_pandas().mean_score.isna().all()


def test_supervision_takes_a_picture_of_nothing_but_background() -> None:
    result = result_of(np.zeros((4, 5)), background=True)
    for detections in (result.to_supervision(), result.to_supervision(instances=True)):
        assert len(detections) == 0
        sv.MaskAnnotator().annotate(result.image.copy(), detections)


def test_pandas_has_the_table(result: Segmentation) -> None:
    frame = result.to_pandas()
    assert frame.to_dict("records")[0] == result.to_records()[0]
    assert frame.pixels.sum() == result.label_map.size
    pd.testing.assert_frame_equal(frame, pd.read_csv(io.StringIO(result.to_csv())), check_dtype=False)
