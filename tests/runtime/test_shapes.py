"""Shapes of label maps: run-length codes, polygons, connected parts, tables."""

from __future__ import annotations

import builtins
import csv
import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco
from skimage import measure

from t2d_runtime import Segmentation
from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.errors import ClassNamesError, MissingPackageError, OptionError
from t2d_runtime.results import label_map as label_maps
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.results.shapes.polygons import Polygon

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
"""pycocotools 2.0 reads arrays in NumPy's old way."""


def settings_of(*, background: bool) -> SegmentationSettings:
    return SegmentationSettings(background, None, 0.5, 1.0, PamrSettings((1,), 1), "slide", "none", "fp32")


def result_of(
    labels: Any, names: int | None = None, *, background: bool = False, confidence: NDArray[np.float32] | None = None
) -> Segmentation:
    label_map = np.asarray(labels)
    if label_map.dtype not in (np.uint8, np.uint16):
        label_map = label_map.astype(np.uint8)
    names = int(label_map.max()) + 1 if names is None else names
    image = np.zeros((*label_map.shape, 3), np.uint8)
    words = tuple(f"class {label}" for label in range(names))
    words = ("background", *words[1:]) if background else words
    return Segmentation(image, label_map, words, None, settings_of(background=background), confidence=confidence)


@st.composite
def label_maps_of(draw: st.DrawFn) -> NDArray[Any]:
    """Noise, where every pixel may be a part, and larger patches with holes in holes."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    labels = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(
        0, draw(st.integers(1, 4)), (height, width)
    )
    scale = draw(st.sampled_from([1, 1, 3]))
    return labels.repeat(scale, axis=0).repeat(scale, axis=1).astype(draw(st.sampled_from([np.uint8, np.uint16])))


RINGS = np.array([[0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
"""Pixels of one part that meet at corners, around holes that touch the border, the outside and each other."""


def filled(polygons: list[Polygon], size: tuple[int, int]) -> NDArray[np.int64]:
    """Number of polygons over each pixel: its centre is inside where an odd number of sides is to its left."""
    total = np.zeros(size, np.int64)
    for polygon in polygons:
        crossings = np.zeros((size[0], size[1] + 1), np.int64)
        for ring in (polygon.exterior, *polygon.holes):
            for (x, y), (next_x, next_y) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
                assert (x == next_x) != (y == next_y)
                if x == next_x:
                    crossings[min(y, next_y) : max(y, next_y), x] += 1
        total += crossings.cumsum(axis=1)[:, :-1] % 2
    return total


def area_of(ring: NDArray[np.int32]) -> float:
    """Above 0 where the ring runs clockwise on the screen."""
    x, y = ring.astype(float).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


# Run-length codes


@given(label_maps_of())
@example(RINGS)
def test_codes_are_those_of_pycocotools(labels: NDArray[Any]) -> None:
    result = result_of(labels, 5)
    codes = result.rle()
    assert list(codes) == list(result.class_names)
    for name, code in json.loads(json.dumps(codes)).items():
        mask = result.mask(name)
        assert code["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        np.testing.assert_array_equal(coco.decode(code), mask)
        assert coco.area(code) == mask.sum()


def test_codes_of_many_labels() -> None:
    labels = (np.arange(60 * 70) % 700).reshape(60, 70).astype(np.uint16)
    codes = result_of(labels, 701).rle()
    np.testing.assert_array_equal(coco.decode(codes["class 699"]), labels == 699)
    assert coco.area(codes["class 700"]) == 0


# Polygons


@given(label_maps_of(), st.sampled_from([1, 20, 1 << 20]))
@example(RINGS, 1 << 20)
@example(1 - RINGS, 1)
def test_polygons_fill_exactly_their_labels(labels: NDArray[Any], band: int) -> None:
    result = result_of(labels, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_maps, "BAND", band)
        of_all = result.polygons()
        assert list(of_all) == list(result.class_names)
        for name, polygons in of_all.items():
            np.testing.assert_array_equal(filled(polygons, labels.shape), result.mask(name))
            same = result.polygons(name)
            assert [polygon.exterior.tolist() for polygon in same] == [
                polygon.exterior.tolist() for polygon in polygons
            ]
            areas = [area_of(one.exterior) + sum(map(area_of, one.holes)) for one in polygons]
            assert areas == sorted(areas, reverse=True)
            assert sum(areas) == result.mask(name).sum()


@given(label_maps_of())
@example(RINGS)
@example(1 - RINGS)
def test_each_part_is_one_polygon_and_no_ring_meets_itself(labels: NDArray[Any]) -> None:
    result = result_of(labels, 5)
    for name, polygons in result.polygons().items():
        assert len(polygons) == measure.label(result.mask(name), connectivity=1).max()
        for polygon in polygons:
            assert area_of(polygon.exterior) > 0
            assert all(area_of(hole) < 0 for hole in polygon.holes)
            for ring in (polygon.exterior, *polygon.holes):
                assert len(np.unique(ring, axis=0)) == len(ring) >= 4


def test_a_square_with_a_hole() -> None:
    labels = np.zeros((5, 6))
    labels[1:4, 2:5] = 1
    labels[2, 3] = 0
    (square,) = result_of(labels).polygons("class 1")
    assert square.exterior.dtype == np.int32
    assert sorted(map(tuple, square.exterior.tolist())) == [(2, 1), (2, 4), (5, 1), (5, 4)]
    (hole,) = square.holes
    assert sorted(map(tuple, hole.tolist())) == [(3, 2), (3, 3), (4, 2), (4, 3)]
    shape = square.__geo_interface__
    assert shape["type"] == "Polygon"
    outer, inner = shape["coordinates"]
    assert outer[0] == outer[-1]
    assert len(outer) == len(inner) == 5


# Connected parts


@given(label_maps_of(), st.integers(1, 4), st.booleans())
@example(RINGS, 1, False)
def test_instances_are_the_connected_parts(labels: NDArray[Any], min_area: int, background: bool) -> None:
    result = result_of(labels, 5, background=background)
    found = result.instances(min_area=min_area)
    expected = set()
    for label in range(int(background), 5):
        parts = measure.label(labels == label, connectivity=1)
        for region in measure.regionprops(parts):
            if region.area >= min_area:
                top, left, bottom, right = region.bbox
                expected.add((label, (left, top, right, bottom), int(region.area), region.image.tobytes()))
    assert {(one.label, one.box, one.area, one.mask.tobytes()) for one in found} == expected
    assert len(found) == len(expected)
    assert all(one.name == result.class_names[one.label] for one in found)
    keys = [(one.label, -one.area) for one in found]
    assert keys == sorted(keys)


@given(label_maps_of())
def test_bands_change_nothing(labels: NDArray[Any]) -> None:
    result = result_of(labels, 5)
    before = [(one.label, one.box) for one in result.instances()], result.rle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_maps, "BAND", 1)
        assert ([(one.label, one.box) for one in result.instances()], result.rle()) == before


@pytest.mark.parametrize("min_area", [0, -1, 1.5, True, None, "3"])
def test_a_smallest_area_that_is_none(min_area: Any) -> None:
    with pytest.raises(OptionError, match=r"min_area is .*, expected a whole number of pixels from 1"):
        result_of([[0]]).instances(min_area=min_area)


# Tables


BOX = ["left", "top", "right", "bottom"]


def test_records_are_the_summary_in_a_row_for_each_label() -> None:
    result = result_of([[0, 2, 2], [0, 0, 2]])
    none = dict.fromkeys(BOX)
    assert result.to_records() == [
        {"label": 0, "name": "class 0", "pixels": 3, "share": 0.5, **box_of(0, 0, 2, 2), "mean_score": None},
        {"label": 1, "name": "class 1", "pixels": 0, "share": 0.0, **none, "mean_score": None},
        {"label": 2, "name": "class 2", "pixels": 3, "share": 0.5, **box_of(1, 0, 3, 2), "mean_score": None},
    ]


def box_of(*sides: int) -> dict[str, int]:
    return dict(zip(BOX, sides, strict=True))


def test_mean_scores_of_labels_and_parts() -> None:
    confidence = np.array([[0.5, 0.75, 0.5], [0.25, 0.5, 0.625]], np.float32)
    result = result_of([[0, 2, 2], [0, 0, 2]], confidence=confidence)
    labels = result.summary()["labels"]
    assert [label["mean_score"] for label in labels] == [pytest.approx(1.25 / 3, abs=1e-6), None, 0.625]
    assert [record["mean_score"] for record in result.to_records()] == [label["mean_score"] for label in labels]
    assert [part.mean_score for part in result.instances()] == [pytest.approx(1.25 / 3), 0.625]
    assert "mean_score" not in result_of([[0]]).summary()["labels"][0]
    assert result_of([[0]]).instances()[0].mean_score is None


@given(label_maps_of(), st.sampled_from([1, 1 << 20]))
def test_mean_scores_are_those_of_the_masks(labels: NDArray[Any], band: int) -> None:
    confidence = np.random.default_rng(labels.size).random(labels.shape, np.float32)
    result = result_of(labels, 5, confidence=confidence)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_maps, "BAND", band)
        means = [label["mean_score"] for label in result.summary()["labels"]]
        parts = result.instances()
    for name, mean in zip(result.class_names, means, strict=True):
        mask = result.mask(name)
        assert mean == (pytest.approx(confidence[mask].mean(), abs=2e-6) if mask.any() else None)
    for part in parts:
        left, top, right, bottom = part.box
        expected = confidence[top:bottom, left:right][part.mask].mean(dtype=np.float64)
        assert part.mean_score == pytest.approx(expected)


def test_csv_quotes_names_and_leaves_missing_numbers_empty() -> None:
    result = result_of([[0, 0]], 2)
    object.__setattr__(result, "class_names", ('say "cheese", please', "two\nlines"))
    text = result.to_csv()
    assert text.startswith("label,name,pixels,share,left,top,right,bottom,mean_score\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["name"] for row in rows] == list(result.class_names)
    assert [row["right"] for row in rows] == ["2", ""]


# Names and packages


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    result = result_of([[0, 1]])
    for call in (result.mask, result.polygons):
        with pytest.raises(ClassNamesError, match="no label is called 'dog', expected one of 'class 0', 'class 1'"):
            call("dog")


@pytest.mark.parametrize(
    ("package", "call", "advice"),
    [
        ("pycocotools", Segmentation.rle, r"in a checkout of t2d-runtime: pip install '\.\[shapes\]'"),
        ("supervision", Segmentation.to_supervision, "pip install supervision"),
        ("pandas", Segmentation.to_pandas, "pip install pandas"),
    ],
)
def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, package: str, call: Any, advice: str) -> None:
    real = builtins.__import__

    def blocked(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(MissingPackageError, match=f"^{package} is not installed; {advice}$"):
        call(result_of([[0, 1]]))


def test_detections_take_a_smallest_area_only_for_parts() -> None:
    with pytest.raises(OptionError, match="min_area has no effect without instances=True"):
        result_of([[0]]).to_supervision(min_area=3)


def test_shapes_are_made_without_these_packages() -> None:
    code = """
import sys, numpy as np
from t2d_runtime import Segmentation
result = Segmentation(np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=np.uint8), ("a", "b"), None, None)
result.polygons(), result.polygons("a"), result.mask("b")
print([name for name in ("pycocotools", "supervision", "pandas", "cv2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
