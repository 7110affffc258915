"""Labels made in tiles against the plain way: upsample, stitch, resize, arg max."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import PamrSettings, WindowSettings
from t2d_runtime.image.windows import Window, cut_windows, resized_size, stitch, window_boxes
from t2d_runtime.masks import axis_weights, labels
from t2d_runtime.masks.labels import labels_from_patch_scores, labels_from_planes, possible_winners
from t2d_runtime.masks.pamr.numpy_kernels import NumpyKernels
from t2d_runtime.masks.pamr.refine import refine
from t2d_runtime.masks.upsample import upsample

MARGIN = 2e-5
"""Labels may differ where the two best scores are closer: float32 rounding of another order of operations."""


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """An image's size, its windows and patch scores: noise, smooth, all equal, or one class far ahead."""
    size = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    crop = draw(st.integers(8, 40))
    stride = draw(st.integers(crop // 2, crop))
    short = draw(st.integers(crop, 60))
    windows = WindowSettings(short, draw(st.integers(short, 150)), (crop, crop), (stride, stride))
    resized = resized_size(size, windows)
    boxes = window_boxes(resized, windows)
    classes, patches = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0, 0.002, 0.1]))
    scores = 0.5 + spread * rng.standard_normal((len(boxes), classes, patches, patches), np.float32)
    scores += draw(st.sampled_from([0, 0.05])) * rng.standard_normal((1, classes, 1, 1), np.float32)
    threshold = draw(st.sampled_from([None, 0.4, 0.5, 0.52, 0.9]))
    return {"scores": scores, "boxes": boxes, "resized_size": resized, "size": size, "threshold": threshold}


def plain_planes(
    scores: NDArray[np.float32], boxes: tuple[Window, ...], resized_size: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float32]:
    windows = (
        upsample(own, (box.height, box.width), align_corners=True) for own, box in zip(scores, boxes, strict=True)
    )
    stitched = stitch(windows, boxes, (scores.shape[1], *resized_size))
    return upsample(stitched, size, align_corners=False)


def winning_scores(planes: NDArray[np.float32], threshold: float | None) -> NDArray[np.float32]:
    highest: NDArray[np.float32] = planes.max(axis=0)
    return highest if threshold is None else np.maximum(highest, np.float32(threshold))


def assert_labels_of(label_map: NDArray[Any], planes: NDArray[np.float32], threshold: float | None) -> None:
    """Equal to the arg max with a background plane first, wherever the margin decides."""
    if threshold is not None:
        planes = np.concatenate([np.full((1, *planes.shape[1:]), threshold, np.float32), planes])
    assert label_map.shape == planes.shape[1:]
    best = planes.max(axis=0)
    chosen = np.take_along_axis(planes, label_map[np.newaxis].astype(np.intp), axis=0)[0]
    assert (chosen >= best - MARGIN).all()
    sorted_planes = np.sort(planes, axis=0)
    certain = best - sorted_planes[-2] > MARGIN if len(planes) > 1 else np.ones(best.shape, bool)
    np.testing.assert_array_equal(label_map[certain], planes.argmax(axis=0)[certain])


@given(cases())
@settings(deadline=None, max_examples=200)
def test_tiles_equal_the_plain_way(case: dict[str, Any]) -> None:
    label_map = labels_from_patch_scores(**case)
    assert label_map.dtype == np.uint8
    best = np.empty(case["size"], np.float32)
    np.testing.assert_array_equal(labels_from_patch_scores(**case, best=best), label_map)
    threshold = case.pop("threshold")
    planes = plain_planes(**case)
    assert_labels_of(label_map, planes, threshold)
    np.testing.assert_allclose(best, winning_scores(planes, threshold), atol=MARGIN)


@given(cases(), st.sampled_from([1, 3000]), st.integers(1, 3))
@settings(deadline=None, max_examples=50)
def test_chunks_of_classes_and_small_tiles_change_nothing(case: dict[str, Any], chunk: int, many: int) -> None:
    expected = labels_from_patch_scores(**case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "CHUNK_SCORES", chunk)
        patch.setattr(labels, "MANY_CLASSES", many)
        best = np.empty(case["size"], np.float32)
        label_map = labels_from_patch_scores(**case, best=best)
    threshold = case.pop("threshold")
    assert_labels_of(label_map, plain_planes(**case), threshold)
    np.testing.assert_allclose(best, winning_scores(plain_planes(**case), threshold), atol=MARGIN)
    assert (label_map == expected).mean() > 0.99 or case["scores"].std() < 1e-6


@given(cases(), st.sampled_from([16, 64]))
@settings(deadline=None, max_examples=50)
def test_long_sides_in_strips_change_nothing(case: dict[str, Any], long: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axis_weights, "LONG", long)
        patch.setattr(labels, "LONG", long)
        patch.setattr(labels, "STRIP", 50)
        best = np.empty(case["size"], np.float32)
        label_map = labels_from_patch_scores(**case, best=best)
    threshold = case.pop("threshold")
    planes = plain_planes(**case)
    assert_labels_of(label_map, planes, threshold)
    np.testing.assert_allclose(best, winning_scores(planes, threshold), atol=MARGIN)


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (3, 100_000)])
def test_a_picture_with_a_long_side_needs_memory_for_its_labels_alone(size: tuple[int, int]) -> None:
    windows = WindowSettings(448, 2048, (448, 448), (224, 224))
    resized = resized_size(size, windows)
    boxes = window_boxes(resized, windows)
    rng = np.random.default_rng(0)
    scores = rng.random((len(boxes), 3, 32, 32), np.float32)
    planes = rng.random((3, *resized), np.float32)
    tracemalloc.start()
    tiles = labels_from_patch_scores(scores, boxes, resized, size, threshold=0.5)
    _, of_tiles = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    labels_from_planes([planes], size, threshold=0.5, classes=np.arange(3), num_classes=3)
    _, of_planes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(np.unique(tiles)) == 4
    assert max(of_tiles, of_planes) < 16 * tiles.size + 8_000_000


@given(cases(), st.sampled_from([50, 4096]))
@settings(deadline=None, max_examples=50)
def test_planes_equal_the_plain_way(case: dict[str, Any], strip: int) -> None:
    threshold = case.pop("threshold")
    planes = plain_planes(**case | {"size": case["resized_size"]})
    best = np.empty(case["size"], np.float32)
    classes = np.arange(len(planes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "STRIP", strip)
        label_map = labels_from_planes(
            [planes], case["size"], threshold=threshold, classes=classes, num_classes=len(planes), best=best
        )
    planes = upsample(planes, case["size"], align_corners=False)
    assert_labels_of(label_map, planes, threshold)
    np.testing.assert_allclose(best, winning_scores(planes, threshold), atol=MARGIN)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 150), st.integers(1, 150)),
    st.sampled_from([None, 0.3]),
    st.lists(st.integers(0, 5), max_size=2).map(sorted),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_planes_of_the_image_s_size_give_exactly_their_arg_max(
    shape: tuple[int, int, int], threshold: float | None, cuts: list[int], seed: int
) -> None:
    planes = np.random.default_rng(seed).integers(0, 4, shape).astype(np.float32) / 10  # with many ties
    label_map = labels_from_planes(
        np.split(planes, cuts), shape[1:], threshold=threshold, classes=np.arange(shape[0]), num_classes=shape[0]
    )
    if threshold is not None:
        planes = np.concatenate([np.full((1, *shape[1:]), threshold, np.float32), planes])
    np.testing.assert_array_equal(label_map, planes.argmax(axis=0))


@given(cases(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_classes_left_out_of_refinement_cannot_win(case: dict[str, Any], seed: int) -> None:
    threshold = case["threshold"]
    winners = possible_winners(case["scores"], threshold=threshold)
    image = np.random.default_rng(seed).integers(0, 256, (*case["resized_size"], 3), np.uint8)
    refined = []
    for crop, own in zip(cut_windows(image, case["boxes"]), case["scores"], strict=True):
        planes = upsample(own, crop.shape[:2], align_corners=True)
        refined.append(refine(crop, planes, PamrSettings((1,), 2), kernels=NumpyKernels))
    planes = stitch(refined, case["boxes"], (case["scores"].shape[1], *case["resized_size"]))
    best = np.empty(case["size"], np.float32)
    label_map = labels_from_planes(
        [planes[winners]], case["size"], threshold=threshold, classes=winners, num_classes=len(planes), best=best
    )
    planes = upsample(planes, case["size"], align_corners=False)
    assert_labels_of(label_map, planes, threshold)
    np.testing.assert_allclose(best, winning_scores(planes, threshold), atol=MARGIN)


def test_classes_below_the_threshold_or_below_another_cannot_win() -> None:
    scores = np.array([[[0.1, 0.4], [0.45, 0.6], [0.5, 0.7]]], np.float32)[:, :, np.newaxis]
    assert possible_winners(scores, threshold=None).tolist() == [1, 2]
    assert possible_winners(scores, threshold=0.6).tolist() == [2]
    assert possible_winners(scores, threshold=0.7).tolist() == []


def test_without_a_possible_winner_all_is_background() -> None:
    planes = np.zeros((0, 4, 5), np.float32)
    label_map = labels_from_planes([planes], (8, 9), threshold=0.5, classes=np.arange(0), num_classes=3)
    np.testing.assert_array_equal(label_map, np.zeros((8, 9)))


@pytest.mark.parametrize("many", [1, 512])
@pytest.mark.parametrize("chunk", [1, 1 << 19])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_ties_go_to_the_lowest_label(
    monkeypatch: pytest.MonkeyPatch, threshold: float | None, chunk: int, many: int
) -> None:
    monkeypatch.setattr(labels, "CHUNK_SCORES", chunk)
    monkeypatch.setattr(labels, "MANY_CLASSES", many)
    scores = np.full((1, 3, 2, 2), 0.5, np.float32)
    label_map = labels_from_patch_scores(scores, (Window(0, 0, 4, 4),), (4, 4), (70, 90), threshold=threshold)
    np.testing.assert_array_equal(label_map, np.zeros((70, 90)))


def test_a_score_at_the_threshold_is_background() -> None:
    scores = np.array([0.5, 0.75], np.float32).reshape(1, 1, 1, 2)
    label_map = labels_from_patch_scores(scores, (Window(0, 0, 1, 2),), (1, 2), (1, 2), threshold=0.5)
    np.testing.assert_array_equal(label_map, [[0, 1]])


@pytest.mark.parametrize(
    ("classes", "threshold", "dtype"),
    [(256, None, np.uint8), (257, None, np.uint16), (255, 0.1, np.uint8), (256, 0.1, np.uint16)],
)
def test_the_type_holds_every_label(classes: int, threshold: float | None, dtype: type) -> None:
    scores = np.linspace(0.2, 0.9, classes, dtype=np.float32)[np.newaxis, :, np.newaxis, np.newaxis]
    label_map = labels_from_patch_scores(scores, (Window(0, 0, 4, 4),), (4, 4), (4, 4), threshold=threshold)
    assert label_map.dtype == dtype
    assert (label_map == classes - (threshold is None)).all()


@given(cases(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_permuted_classes_give_permuted_labels(case: dict[str, Any], random: Any) -> None:
    order = list(range(case["scores"].shape[1]))
    random.shuffle(order)
    permuted = labels_from_patch_scores(**case | {"scores": case["scores"][:, order]})
    threshold = case.pop("threshold")
    assert_labels_of(permuted, plain_planes(**case)[order], threshold)
