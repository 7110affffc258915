"""What may be asked of `Segmenter`: options, words and images of another kind are named before any work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.errors import ClassNamesError, OptionError
from t2d_runtime.results.options import SegmentOptions


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = data.astronaut()[:300, :400]
    return image


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5, expected a number from 0 to 1"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"cleaning_weight": -1.0}, r"cleaning_weight is -1.0, expected a number from 0 to 1e\+30"),
        ({"cleaning_weight": 1e39}, r"cleaning_weight is 1e\+39, expected a number from 0 to 1e\+30"),
        ({"cleaning": "soap"}, "cleaning is 'soap', expected None, True, False or one of"),
        ({"threshold": "0.5"}, "threshold is '0.5', expected a number"),
        ({"threshold": True}, "threshold is True, expected a number"),
        ({"cleaning_weight": [1.0]}, r"cleaning_weight is \[1.0\], expected a number"),
        ({"background": "no"}, "background is 'no', expected True or False"),
        ({"refine": "no"}, "refine is 'no', expected True or False"),
        ({"keep_scores": "no"}, "keep_scores is 'no', expected True or False"),
        ({"cleaning": np.array(["official", "paper"])}, r"cleaning is array\(\['official', 'paper'\]"),
        ({"window": np.array(["slide", "whole"])}, r"window is array\(\['slide', 'whole'\]"),
        ({"background": True, "threshold": np.complex64(0.5)}, "threshold is .*, expected a number from 0 to 1"),
        ({"background": True, "threshold": np.array([0.5, 0.6])}, "threshold is array.*, expected a number from 0"),
        ({"refine": PamrSettings(3, 2)}, "refine has dilations 3, expected one or more whole numbers"),  # type: ignore[arg-type]
        ({"keep_confidence": 1}, "keep_confidence is 1, expected True or False"),
        ({"window": "bogus"}, "window is 'bogus', expected one of"),
    ],
)
def test_options_out_of_range_are_named(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8], options: Any, message: str
) -> None:
    encoding = segmenter.encode_image(photograph)
    for image in (encoding, Path("no such file.jpg")):  # before the image is looked at
        with pytest.raises(OptionError, match=message):
            segmenter.segment(image, classes, **options)
    with pytest.raises(OptionError, match=message):
        segmenter.segment_batch(iter([photograph]), classes, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.6}, "threshold has no effect without background=True"),
        ({"cleaning_weight": 0.1}, "cleaning_weight has no effect without cleaning"),
        ({"background": True, "cleaning": False, "cleaning_weight": 0.1}, "cleaning_weight has no effect without"),
        ({"tint": 1}, r"unknown options \['tint'\], expected some of \['background', 'cleaning'"),
        ({"refine": PamrSettings((), 3)}, r"dilations \(\), expected one or more whole numbers from 1 to 512 pixels"),
        ({"refine": PamrSettings((1, 0), 3)}, r"dilations \(1, 0\), expected one or more"),
        ({"refine": PamrSettings((1, 513), 3)}, r"dilations \(1, 513\), expected one or more"),
        ({"refine": PamrSettings((1,), 0)}, "iterations 0, expected 1 to 1000 iterations"),
        ({"refine": PamrSettings((1,), 1001)}, "iterations 1001, expected 1 to 1000 iterations"),
    ],
)
def test_options_without_effect_or_unknown_are_named(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8], options: Any, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        segmenter.segment("no such file.jpg", classes, **options)
    with pytest.raises(OptionError, match=message):
        segmenter.segment_batch([photograph], classes, **options)


def test_none_is_every_option_s_default(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    result = segmenter.segment(photograph, classes, **dict.fromkeys(SegmentOptions.__optional_keys__))
    assert result.settings == segmenter.segment(photograph, classes).settings
    assert (result.scores, result.confidence) == (None, None)


def test_an_encoded_image_has_its_window(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    encoding = segmenter.encode_image(photograph, "whole")
    assert segmenter.segment(encoding, classes, window=None).settings.window == "whole"
    for window in ("slide", "whole"):
        with pytest.raises(OptionError, match=r"window has no effect on an encoded image, .* with 'whole'"):
            segmenter.segment(encoding, classes, window=window)  # type: ignore[arg-type]


def test_pamr_takes_other_iterations_and_dilations(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    encoding = segmenter.encode_image(photograph)
    published = segmenter.manifest.defaults.pamr
    same = segmenter.segment(encoding, classes, refine=published, keep_scores=True)
    assert same.settings.refine == published
    np.testing.assert_array_equal(
        same.scores, segmenter.segment(encoding, classes, refine=True, keep_scores=True).scores
    )
    for other in (replace(published, iterations=3), replace(published, dilations=(2, 5))):
        changed = segmenter.segment(encoding, classes, refine=other, keep_scores=True)
        assert changed.settings.refine == other
        assert not np.array_equal(changed.scores, same.scores)
        settings = json.loads(json.dumps(changed.summary()))["settings"]
        assert settings["refine"] == {"dilations": list(other.dilations), "iterations": other.iterations}


def test_numbers_and_flags_of_numpy_are_taken(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    options: Any = {"background": np.True_, "threshold": np.float32(0.5), "cleaning_weight": np.int64(1)}
    result = segmenter.segment(photograph, classes, **options, cleaning=np.True_, refine=np.False_)
    assert json.loads(json.dumps(result.summary()))["settings"]["threshold"] == 0.5
    assert result.class_names[0] == "background"


@pytest.mark.parametrize(("classes", "message"), [(None, "expected a list of class names, got None"), ([], "got none")])
def test_classes_of_another_kind_are_named(segmenter: Segmenter, classes: Any, message: str) -> None:
    with pytest.raises(ClassNamesError, match=message):
        segmenter.segment("no such file.jpg", classes)
    with pytest.raises(ClassNamesError, match=message):
        segmenter.segment_batch([], classes)


def test_words_are_taken_as_they_are(segmenter: Segmenter, photograph: NDArray[np.uint8]) -> None:
    expected = segmenter.segment(photograph, segmenter.encode_classes(["sky", "sea"]))
    for words in (["sky", "sea"], {"sky": "sky", "sea": ["sea"]}):
        got = segmenter.segment(photograph, words)
        assert got.class_names == ("sky", "sea")
        np.testing.assert_array_equal(got.label_map, expected.label_map)
    (batched,) = segmenter.segment_batch([photograph], ["sky", "sea"])
    np.testing.assert_array_equal(batched.label_map, expected.label_map)


def test_a_class_is_not_called_as_label_0_is(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    named = replace(classes, names=(" Background", *classes.names[1:]))
    with pytest.raises(ClassNamesError, match="a class is called 'background', the name of label 0"):
        segmenter.segment(photograph, named, background=True)
    assert segmenter.segment(photograph, named).class_names == named.names


@pytest.mark.parametrize("images", ["photo.jpg", Path("photo.jpg"), None, 3])
def test_one_image_in_place_of_many_is_named(segmenter: Segmenter, classes: ClassEmbeddings, images: Any) -> None:
    with pytest.raises(OptionError, match="expected a list or a generator of images"):
        segmenter.segment_batch(images, classes)


@pytest.mark.parametrize("num_threads", ["2", 1.5, 0, -1, True, 8193])
def test_threads_are_a_whole_number(exported_bundle: Path, num_threads: Any) -> None:
    with pytest.raises(OptionError, match="expected a whole number from 1 to 8192, or None"):
        Segmenter.open(exported_bundle, num_threads=num_threads)
