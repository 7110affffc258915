"""Classes go through upsampling, PAMR and stitching in chunks; the plain way takes all of them at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2d_runtime.bundle.manifest import PamrSettings, WindowSettings
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.features import HostFeatures
from t2d_runtime.image.windows import cut_windows, stitch, window_boxes
from t2d_runtime.masks import postprocess
from t2d_runtime.masks.pamr.refine import CLASS_CHUNK, refine
from t2d_runtime.masks.postprocess import image_scores, label_map_of, labels_of, window_scores
from t2d_runtime.masks.upsample import upsample
from t2d_runtime.results.options import SegmentationSettings

PAMR = PamrSettings((1, 2), 2)
WIDTH = 4


def encoded(rng: np.random.Generator, size: tuple[int, int]) -> ImageEncoding:
    """Random windows of 8 x 8 pixels and 3 x 3 patches on an image that is not resized."""
    boxes = window_boxes(size, WindowSettings(short_side=8, max_long_side=99, crop_size=(8, 8), stride=(4, 4)))
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    return ImageEncoding(
        image=image,
        resized=image.copy(),
        windows=boxes,
        features=HostFeatures(
            rng.normal(0, 1, (len(boxes), 3, 3, WIDTH)).astype(np.float32),
            rng.normal(0, 1, (len(boxes), 2, 3, 3)).astype(np.float32),
        ),
        window_mode="slide",
        model_digest="",
        backend="",
        precision="fp32",
    )


def options(*, background: bool, refined: bool) -> SegmentationSettings:
    cleaning, pamr = "official" if background else None, PAMR if refined else None
    return SegmentationSettings(background, cleaning, 0.5, 0.2, pamr, "slide", "", "fp32")


def unit_vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(0, 1, (count, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    count=st.sampled_from([1, 2, CLASS_CHUNK, CLASS_CHUNK + 1, 2 * CLASS_CHUNK + 3]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    background=st.booleans(),
    refined=st.booleans(),
)
def test_chunks_give_what_all_classes_give(
    seed: int, count: int, size: tuple[int, int], background: bool, refined: bool
) -> None:
    rng = np.random.default_rng(seed)
    encoding, vectors = encoded(rng, size), unit_vectors(rng, count)
    asked = options(background=background, refined=refined)
    crops = cut_windows(encoding.resized, encoding.windows)
    windows = []
    for crop, scores in zip(crops, window_scores(encoding, vectors, asked), strict=True):
        planes = upsample(scores, crop.shape[:2], align_corners=True)
        windows.append(refine(crop, planes, PAMR) if refined else planes)
    plain = stitch(windows, encoding.windows, (count, *size))
    np.testing.assert_array_equal(image_scores(encoding, vectors, asked), plain)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 9), group=st.integers(1, 9), background=st.booleans())
def test_groups_of_classes_change_no_label(seed: int, count: int, group: int, background: bool) -> None:
    rng = np.random.default_rng(seed)
    encoding, vectors = encoded(rng, (13, 17)), unit_vectors(rng, count)
    asked = options(background=background, refined=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postprocess, "CLASS_GROUP", group)
        labels = label_map_of(encoding, vectors, asked, keep_scores=False).label_map
    np.testing.assert_array_equal(labels, label_map_of(encoding, vectors, asked, keep_scores=True).label_map)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 300),
    size=st.tuples(st.integers(1, 90), st.integers(1, 5)),
    background=st.booleans(),
)
def test_labels_of_scores_are_their_arg_max(seed: int, count: int, size: tuple[int, int], background: bool) -> None:
    # Few values, so that there are ties between classes and with the threshold.
    scores = np.random.default_rng(seed).integers(0, 4, (count, *size)).astype(np.float32) / 4
    labels = labels_of(scores, options(background=background, refined=False))
    planes = np.concatenate([np.full((1, *size), 0.5, np.float32), scores]) if background else scores
    np.testing.assert_array_equal(labels, planes.argmax(axis=0))
    assert labels.dtype == (np.uint8 if len(planes) <= 256 else np.uint16)


@pytest.mark.parametrize("refined", [False, True])
def test_no_class_above_the_threshold_leaves_background_alone(refined: bool) -> None:
    rng = np.random.default_rng(0)
    encoding, vectors = encoded(rng, (9, 13)), unit_vectors(rng, 3)
    asked = SegmentationSettings(True, None, 0.99, 0.2, PAMR if refined else None, "slide", "", "fp32")
    found = label_map_of(encoding, vectors, asked, keep_scores=False, keep_confidence=True)
    assert found.scores is None
    assert not found.label_map.any()
    np.testing.assert_array_equal(found.confidence, np.full((9, 13), 0.99, np.float32))
