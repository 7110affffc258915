"""The fused graph gives the runtime's labels, from images of any size; what it cannot take is a clear error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.backends.base import Arrays
from t2d_runtime.bundle.manifest import sealed
from t2d_runtime.errors import BackendError, BundleError, ClassNamesError, ImageError, OptionError, VocabularyError
from t2d_runtime.fused import LONGEST_SIDE, FusedSegmenter
from t2d_runtime.image.windows import resized_size
from t2d_runtime.proof.parity import LABEL_MARGIN

AGREEMENT = 0.999
"""Least share of equal labels from an image that the graph has to resize."""


@pytest.fixture(scope="session")
def fused(exported_bundle: Path) -> FusedSegmenter:
    return FusedSegmenter.open(exported_bundle, backend="onnxruntime")


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours with grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    colours = np.stack([0.5 + 0.4 * np.sin(19 * x + 2), 0.3 + 0.5 * y, 0.8 - 0.6 * x * y], axis=-1)
    return np.clip(255 * (colours + rng.normal(0, 0.05, colours.shape)), 0, 255).astype(np.uint8)


def vectors(count: int, like: ClassEmbeddings, seed: int = 0) -> ClassEmbeddings:
    """Made-up words near those of a vocabulary."""
    rng = np.random.default_rng(seed)
    rows = like.vectors[rng.integers(len(like.names), size=count)]
    rows = rows + rng.normal(0, 0.5 / rows.shape[1] ** 0.5, rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return ClassEmbeddings(tuple(f"thing {i}" for i in range(count)), rows.astype(np.float32), like.digest)


@settings(max_examples=12)
@given(
    size=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    count=st.integers(1, 40),
    background=st.booleans(),
    threshold=st.one_of(st.none(), st.floats(0.5, 0.6)),
    weight=st.one_of(st.none(), st.floats(0, 1)),
)
def test_labels_are_the_runtimes_from_any_image(
    segmenter: Segmenter,
    fused: FusedSegmenter,
    classes: ClassEmbeddings,
    size: tuple[int, int],
    count: int,
    background: bool,
    threshold: float | None,
    weight: float | None,
) -> None:
    image, words = picture(*size), vectors(count, classes)
    options = {"background": background}
    if background:
        options |= {"threshold": threshold, "cleaning_weight": weight}
    expected = segmenter.segment(image, words, window="whole", **options)  # type: ignore[arg-type]
    got = fused.segment(image, words, **options)  # type: ignore[arg-type]
    assert got.label_map.shape == size
    assert (got.label_map == expected.label_map).mean() >= AGREEMENT
    assert got.class_names == expected.class_names
    assert got.settings == expected.settings


@pytest.mark.parametrize("refine", [False, True])
def test_labels_are_equal_beyond_the_margin_from_an_image_of_the_windows_size(
    segmenter: Segmenter, fused: FusedSegmenter, classes: ClassEmbeddings, refine: bool
) -> None:
    short = segmenter.manifest.windows.short_side
    image, words = picture(short + 37, short), vectors(8, classes)
    expected = segmenter.segment(image, words, window="whole", refine=refine, keep_scores=True)
    got = fused.segment(image, words, refine=refine, keep_scores=True)
    assert expected.scores is not None
    assert got.scores is not None
    np.testing.assert_allclose(got.scores, expected.scores, atol=LABEL_MARGIN / 2)
    ranked = np.sort(expected.scores, axis=0)
    firm = ranked[-1] - ranked[-2] > LABEL_MARGIN
    np.testing.assert_array_equal(got.label_map[firm], expected.label_map[firm])


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (37, 1000), (333, 251), (1080, 1920)])
def test_odd_sizes(
    segmenter: Segmenter, fused: FusedSegmenter, classes: ClassEmbeddings, size: tuple[int, int]
) -> None:
    image = picture(*size)
    options = {"background": True, "refine": min(size) < 50}
    expected = segmenter.segment(image, classes, window="whole", keep_scores=True, **options)  # type: ignore[arg-type]
    got = fused.segment(image, classes, keep_scores=True, **options)  # type: ignore[arg-type]
    assert (got.label_map == expected.label_map).mean() >= AGREEMENT
    assert got.scores is not None
    assert got.scores.shape == (len(classes.names), *size)


def test_the_graphs_own_window_is_the_runtimes(fused: FusedSegmenter, classes: ClassEmbeddings) -> None:
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 2000, (6, 2)):
        height, width = (int(side) for side in size)
        _, scores = fused.run(
            np.zeros((height, width, 3), np.uint8),
            classes.vectors,
            thresholds=np.zeros(len(classes.vectors), np.float32),
            cleaning_weight=0,
            pamr_iterations=0,
        )
        assert scores.shape[1:] == resized_size((height, width), fused.manifest.windows)


def test_ties_go_to_the_lowest_label(fused: FusedSegmenter, classes: ClassEmbeddings) -> None:
    same = replace(classes, names=("a", "b", "c"), vectors=np.repeat(classes.vectors[:1], 3, axis=0))
    assert not fused.segment(picture(60, 90), same).label_map.any()


@pytest.mark.parametrize(
    ("count", "background", "dtype"),
    [(256, False, np.uint8), (257, False, np.uint16), (255, True, np.uint8), (256, True, np.uint16)],
)
def test_the_type_holds_every_label(
    segmenter: Segmenter,
    fused: FusedSegmenter,
    classes: ClassEmbeddings,
    count: int,
    background: bool,
    dtype: type,
) -> None:
    words, image = vectors(count, classes), picture(90, 60)
    got = fused.segment(image, words, background=background)
    assert got.label_map.dtype == dtype
    expected = segmenter.segment(image, words, background=background, window="whole")
    assert (got.label_map == expected.label_map).mean() >= AGREEMENT


def test_int8_gives_the_labels_of_the_runtime_in_int8(exported_bundle: Path, classes: ClassEmbeddings) -> None:
    image = picture(200, 300)
    fused = FusedSegmenter.open(exported_bundle, backend="onnxruntime", precision="int8")
    runtime = Segmenter.open(exported_bundle, backend="onnxruntime", precision="int8")
    expected = runtime.segment(image, classes, background=True, window="whole")
    got = fused.segment(image, classes, background=True)
    assert got.settings.precision == "int8"
    assert (got.label_map == expected.label_map).mean() >= AGREEMENT


def test_words_are_told_where_embeddings_come_from(fused: FusedSegmenter) -> None:
    with pytest.raises(
        ClassNamesError, match=r"classes are list, .*Segmenter\.encode_classes makes them, and Class.*load"
    ):
        fused.segment(picture(30, 40), ["sky"])  # type: ignore[arg-type]


def test_a_vocabulary_of_another_bundle_is_refused(fused: FusedSegmenter, classes: ClassEmbeddings) -> None:
    image = picture(20, 20)
    with pytest.raises(VocabularyError, match="another text encoder"):
        fused.segment(image, replace(classes, digest="0" * 64))
    with pytest.raises(VocabularyError, match="width 8"):
        fused.segment(image, replace(classes, vectors=np.eye(len(classes.names), 8, dtype=np.float32)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"cleaning_weight": -1.0}, "cleaning_weight is -1"),
        ({"cleaning": "paper"}, "use Segmenter for 'paper'"),
        ({"cleaning": "none"}, "cleaning is 'none'"),
    ],
)
def test_options_out_of_range_are_refused(
    fused: FusedSegmenter, classes: ClassEmbeddings, options: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        fused.segment(picture(20, 20), classes, **options)  # type: ignore[arg-type]


def test_an_image_with_too_long_a_side_is_refused(fused: FusedSegmenter, classes: ClassEmbeddings) -> None:
    with pytest.raises(ImageError, match=f"takes sides up to {LONGEST_SIDE}; make it smaller"):
        fused.segment(np.zeros((1, LONGEST_SIDE + 1, 3), np.uint8), classes)


def test_opening_refuses_what_the_bundle_does_not_hold(exported_bundle: Path, bundle_copy: Path) -> None:
    with pytest.raises(OptionError, match="precision is 'fast'"):
        FusedSegmenter.open(exported_bundle, precision="fast")
    manifest = bundle_copy / "manifest.json"
    manifest.write_text(sealed(json.loads(manifest.read_text().replace('"segmenter.onnx"', '"other.onnx"'))))
    (bundle_copy / "segmenter.onnx").rename(bundle_copy / "other.onnx")
    with pytest.raises(BundleError, match=r"has no segmenter\.onnx .* export it with --precision fp32 --fused"):
        FusedSegmenter.open(bundle_copy, backend="onnxruntime")


def test_scores_that_are_not_finite_are_an_error(
    fused: FusedSegmenter, classes: ClassEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflows:
        def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
            return {"label_map": np.zeros((2, 2), np.float32), "scores": np.full((1, 2, 2), np.nan, np.float32)}

    monkeypatch.setattr(fused, "_engine", Overflows())
    with pytest.raises(BackendError, match="scores that are not finite"):
        fused.segment(picture(2, 2), classes)
