"""Classes of several phrases, negatives and thresholds of classes: labels as of the plain rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.errors import ClassNamesError, OptionError
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.proof.parity import LABEL_MARGIN

CLASSES = {"person": ["person", "umbrella", "boat"], "rocket": ["tree", "balloon"], "sky": "sky"}
NEGATIVES = ["sea", "sand"]
PHRASES = ["person", "umbrella", "boat", "tree", "balloon", "sky", "sea", "sand"]
CLASS_OF = np.array([0, 0, 0, 1, 1, 2, -1, -1])


@pytest.fixture(scope="module")
def encoding(segmenter: Segmenter) -> ImageEncoding:
    """Several windows wide."""
    return segmenter.encode_image(data.astronaut()[:200, :500])


def scores_of(segmenter: Segmenter, encoding: ImageEncoding, words: Any, **options: Any) -> NDArray[np.float32]:
    scores = segmenter.segment(encoding, words, keep_scores=True, **options).scores
    assert scores is not None
    return scores


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_labels_are_those_of_the_phrases_mapped_afterwards(
    segmenter: Segmenter, encoding: ImageEncoding, refine: bool, background: bool
) -> None:
    options: Any = {"background": background, "refine": refine}
    plain = segmenter.segment(encoding, PHRASES, **options).label_map.astype(int)
    rows = plain - 1 if background else plain
    expected = np.where(rows < 0, 0, CLASS_OF[rows] + 1)
    got = segmenter.segment(encoding, segmenter.encode_classes(CLASSES, negatives=NEGATIVES), **options)
    assert got.class_names == ("background", "person", "rocket", "sky")
    assert got.label_map.dtype == np.uint8
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(got.label_map, expected)


def test_without_negatives_and_background_labels_begin_with_the_first_class(
    segmenter: Segmenter, encoding: ImageEncoding
) -> None:
    rows = segmenter.segment(encoding, PHRASES[:6]).label_map
    got = segmenter.segment(encoding, CLASSES)
    assert got.class_names == tuple(CLASSES)
    assert not got.has_background
    np.testing.assert_array_equal(got.label_map, CLASS_OF[rows])


def test_a_score_of_a_class_is_the_highest_of_its_phrases(segmenter: Segmenter, encoding: ImageEncoding) -> None:
    rows = scores_of(segmenter, encoding, PHRASES)
    got = scores_of(segmenter, encoding, segmenter.encode_classes(CLASSES, negatives=NEGATIVES))
    np.testing.assert_array_equal(got, [rows[:3].max(axis=0), rows[3:5].max(axis=0), rows[5]])


@pytest.mark.parametrize("refine", [False, True])
def test_classes_compete_by_how_far_they_exceed_their_thresholds(
    segmenter: Segmenter, encoding: ImageEncoding, refine: bool
) -> None:
    options: Any = {"background": True, "refine": refine}
    rows = scores_of(segmenter, encoding, PHRASES, **options)
    middle = float(np.median(rows.max(axis=0)))
    thresholds = {"person": middle - 0.004, "sky": middle + 0.003}
    classes = segmenter.encode_classes(CLASSES, negatives=NEGATIVES, thresholds=thresholds)
    of_rows = np.array([thresholds["person"]] * 3 + [middle] * 2 + [thresholds["sky"]] + [middle] * 2, np.float32)
    margins = np.concatenate([np.zeros((1, *rows.shape[1:]), np.float32), rows - of_rows[:, None, None]])
    expected = np.concatenate([[0], CLASS_OF + 1])[margins.argmax(axis=0)]
    second, best = np.sort(margins, axis=0)[-2:]
    firm = best - second > LABEL_MARGIN
    assert firm.mean() > 0.9
    assert len(np.unique(expected)) == 4
    for keep_scores in (False, True):
        got = segmenter.segment(encoding, classes, threshold=middle, keep_scores=keep_scores, **options).label_map
        np.testing.assert_array_equal(got[firm], expected[firm])
    without = segmenter.segment(encoding, segmenter.encode_classes(CLASSES, negatives=NEGATIVES), **options).label_map
    assert (got != without).any()


def test_one_threshold_for_all_classes_is_that_of_the_call(segmenter: Segmenter, encoding: ImageEncoding) -> None:
    classes = segmenter.encode_classes(CLASSES, thresholds=dict.fromkeys(CLASSES, 0.53))
    for keep_scores in (False, True):
        got = segmenter.segment(encoding, classes, background=True, keep_scores=keep_scores)
        expected = segmenter.segment(encoding, CLASSES, background=True, threshold=0.53, keep_scores=keep_scores)
        assert len(np.unique(expected.label_map)) > 1
        np.testing.assert_array_equal(got.label_map, expected.label_map)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("case", ["no background", "background", "thresholds", "one threshold"])
def test_confidence_is_the_winning_score(
    segmenter: Segmenter, encoding: ImageEncoding, refine: bool, case: str
) -> None:
    """Of the class's best phrase, or of a negative; where no class exceeds its threshold, the lowest threshold."""
    background = case != "no background"
    rows = scores_of(segmenter, encoding, PHRASES, background=background, refine=refine)
    threshold = float(np.median(rows.max(axis=0))) if background else 0.0
    own = {"person": threshold - 0.004, "sky": threshold + 0.003} if case == "thresholds" else {}
    own = dict.fromkeys(CLASSES, threshold) if case == "one threshold" else own
    options: Any = {"background": background, "refine": refine, "threshold": threshold if background else None}
    classes = segmenter.encode_classes(CLASSES, negatives=NEGATIVES, thresholds=own)
    of_rows = np.array([*(own.get(name, threshold) for name in CLASSES), threshold], np.float32)[CLASS_OF]
    margins = rows - of_rows[:, None, None]
    expected = np.take_along_axis(rows, margins.argmax(axis=0)[np.newaxis], axis=0)[0]
    expected = np.where(margins.max(axis=0) > 0, expected, of_rows.min())
    plain = segmenter.segment(encoding, classes, **options)
    assert plain.confidence is None
    for keep_scores in (False, True):
        got = segmenter.segment(encoding, classes, keep_confidence=True, keep_scores=keep_scores, **options)
        assert got.confidence is not None
        assert (got.confidence.dtype, got.confidence.shape) == (np.float32, got.label_map.shape)
        second, best = np.sort(margins, axis=0)[-2:]
        firm = (best - second > LABEL_MARGIN) & (np.abs(best) > LABEL_MARGIN)
        assert firm.mean() > 0.9
        np.testing.assert_allclose(got.confidence[firm], expected[firm], atol=1e-5)
        np.testing.assert_array_equal(got.label_map[firm], plain.label_map[firm])
    alone = segmenter.segment(encoding, classes, keep_confidence=True, **options)
    np.testing.assert_array_equal(alone.label_map, plain.label_map)


def test_what_has_no_effect_or_clashes_is_named(segmenter: Segmenter, encoding: ImageEncoding) -> None:
    with pytest.raises(OptionError, match="the thresholds of 'sky' have no effect without background=True"):
        segmenter.segment(encoding, segmenter.encode_classes(["sky"], thresholds={"sky": 0.5}))
    with pytest.raises(ClassNamesError, match="a class is called 'background', the name of label 0"):
        segmenter.segment(encoding, segmenter.encode_classes(["background"], negatives=["wall"]))


def test_a_batch_takes_them(segmenter: Segmenter, encoding: ImageEncoding) -> None:
    classes = segmenter.encode_classes(CLASSES, negatives=NEGATIVES)
    (got,) = segmenter.segment_batch([encoding.image], classes)
    np.testing.assert_array_equal(got.label_map, segmenter.segment(encoding, classes).label_map)
    assert got.negatives == tuple(NEGATIVES)


def test_the_fused_graph_takes_phrases_negatives_and_thresholds(segmenter: Segmenter, exported_bundle: Path) -> None:
    fused = FusedSegmenter.open(exported_bundle, backend="onnxruntime")
    side = segmenter.manifest.windows.short_side
    image = data.astronaut()[:side, :side]
    plain = segmenter.encode_classes(CLASSES, negatives=NEGATIVES)
    own = replace(plain, thresholds={"person": 0.54, "sky": 0.58})
    for background, classes in ((False, plain), (True, plain), (True, own)):
        options: Any = {"background": background, "keep_scores": True, "keep_confidence": True}
        expected = segmenter.segment(image, classes, window="whole", **options)
        got = fused.segment(image, classes, **options)
        assert got.class_names == expected.class_names
        assert (got.label_map == expected.label_map).mean() > 0.999
        assert got.scores is not None
        assert expected.scores is not None
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
        assert got.confidence is not None
        assert expected.confidence is not None
        same = got.label_map == expected.label_map
        np.testing.assert_allclose(got.confidence[same], expected.confidence[same], atol=1e-5)
    assert fused.segment(image, plain).confidence is None
    without = fused.segment(image, plain, background=True).label_map
    assert (without != got.label_map).mean() > 0.01


@pytest.mark.parametrize("name", ["words.npz", "words.safetensors"])
def test_vocabulary_files_carry_all_of_it(segmenter: Segmenter, tmp_path: Path, name: str) -> None:
    saved = segmenter.encode_classes(CLASSES, negatives=NEGATIVES, thresholds={"sky": 0.5})
    saved.save(tmp_path / name)
    loaded = ClassEmbeddings.load(tmp_path / name)
    for field in ("names", "phrases", "class_indices", "thresholds", "negatives", "digest"):
        assert getattr(loaded, field) == getattr(saved, field), field
    np.testing.assert_array_equal(loaded.vectors, saved.vectors)


def test_thresholds_alone_are_kept_too(segmenter: Segmenter, tmp_path: Path) -> None:
    saved = segmenter.encode_classes(["sky", "sea"], thresholds={"sea": 0.5})
    saved.save(tmp_path / "words.safetensors")
    loaded = ClassEmbeddings.load(tmp_path / "words.safetensors")
    assert (loaded.names, loaded.phrases, loaded.thresholds) == (("sky", "sea"), None, {"sea": 0.5})


def test_embeddings_are_a_collection(segmenter: Segmenter) -> None:
    classes = segmenter.encode_classes(CLASSES, negatives=NEGATIVES, thresholds={"sky": 0.5})
    assert len(classes) == 3
    assert list(classes) == ["person", "rocket", "sky"]
    assert "rocket" in classes
    assert "balloon" not in classes
    np.testing.assert_array_equal(classes["rocket"], classes.vectors[3:5])
    assert repr(classes).startswith(
        "ClassEmbeddings(3 classes: person, rocket, sky; 8 phrases; 2 negatives; 1 thresholds"
    )
    with pytest.raises(ClassNamesError, match="not in the vocabulary: 'balloon'; it has 3 names"):
        classes["balloon"]


def test_subset_and_merge_keep_phrases_negatives_and_thresholds(segmenter: Segmenter) -> None:
    classes = segmenter.encode_classes(CLASSES, negatives=NEGATIVES, thresholds={"sky": 0.5, "person": 0.6})
    part = classes.subset(["sky", "rocket"])
    assert part.phrases == ("sky", "tree", "balloon", "sea", "sand")
    assert part.class_indices == (0, 1, 1, -1, -1)
    assert part.thresholds == {"sky": 0.5}
    np.testing.assert_array_equal(part["rocket"], classes["rocket"])
    other = segmenter.encode_classes({"grass": ["grass", "hill"]}, negatives=["lamp"])
    both = part.merge(other)
    assert both.names == ("sky", "rocket", "grass")
    assert both.phrases == ("sky", "tree", "balloon", "grass", "hill", "sea", "sand", "lamp")
    np.testing.assert_array_equal(both["grass"], other["grass"])
    np.testing.assert_array_equal(both.vectors[-1], other.vectors[-1])
    assert both.subset(["grass"]).negatives == ("sea", "sand", "lamp")
    with pytest.raises(ClassNamesError, match="'lamp' is a negative and a phrase of class 'lamp'"):
        both.merge(segmenter.encode_classes(["lamp"]))
