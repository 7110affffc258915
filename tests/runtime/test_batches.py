"""Many images: an error in its place; results and segmenters that go to other processes."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmentation, Segmenter, T2DError
from t2d_runtime.errors import BundleError, ClassNamesError, ImageError, ImageNotFoundError, OptionError
from t2d_runtime.fused import FusedSegmenter

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def test_an_error_takes_its_result_s_place_where_asked(
    segmenter: Segmenter, classes: ClassEmbeddings, tmp_path: Path
) -> None:
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    opened = Image.fromarray(PIXELS)
    images: list[Any] = [PIXELS, tmp_path / "damaged.png", "nowhere.png", PIXELS[:, :, 0].astype(float), opened]
    with (tmp_path / "damaged.png").open("rb") as file:
        results = list(segmenter.segment_batch([*images, file], classes, errors="yield"))
    assert str(results.pop()).startswith(f"image 5 ({tmp_path / 'damaged.png'}): ")
    assert [type(result) for result in results] == [
        Segmentation,
        ImageError,
        ImageNotFoundError,
        ImageError,
        Segmentation,
    ]
    told = [str(result) for result in results if isinstance(result, T2DError)]
    assert told[0].startswith(f"image 1 ({tmp_path / 'damaged.png'}): ")
    assert told[1].startswith("image 2 (nowhere.png): ")
    assert told[2].startswith("image 3: ")
    np.testing.assert_array_equal(results[0].label_map, results[4].label_map)  # type: ignore[union-attr]


def test_an_error_is_raised_in_its_place_otherwise(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    results = segmenter.segment_batch([PIXELS, "nowhere.png", PIXELS], classes)
    next(results)
    with pytest.raises(ImageNotFoundError, match=r"image 1 \(nowhere\.png\): "):
        next(results)
    assert list(results) == []


def test_faults_of_the_images_iterable_are_not_an_image_s(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    def images() -> Any:
        yield PIXELS
        raise ZeroDivisionError

    results = segmenter.segment_batch(images(), classes, errors="yield")
    next(results)
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("one", [PIXELS, b"a picture", bytearray(9), "a.png", Path("a.png"), io.BytesIO(b"a picture")])
def test_one_image_is_not_taken_for_many(segmenter: Segmenter, classes: ClassEmbeddings, one: Any) -> None:
    with pytest.raises(OptionError, match="expected a list or a generator of images"):
        segmenter.segment_batch(one, classes)


def test_an_array_of_images_is_many(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    assert len(list(segmenter.segment_batch(np.stack([PIXELS, PIXELS]), classes))) == 2


def test_another_word_for_errors_is_refused(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    with pytest.raises(OptionError, match=r"errors is 'skip', expected one of \['raise', 'yield'\]"):
        segmenter.segment_batch([], classes, errors="skip")  # type: ignore[call-overload]


# Results


def test_a_mask_by_its_name(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    result = segmenter.segment(PIXELS, classes, background=True)
    assert result.class_names[0] == "background"
    for label, name in enumerate(result.class_names):
        mask = result.mask(name)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, result.label_map == label)
    with pytest.raises(ClassNamesError, match="no label is called 'cow', expected one of 'background', 'sky', 'grass'"):
        result.mask("cow")


def test_a_result_shows_itself(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    result = segmenter.segment(PIXELS, classes, keep_scores=True)
    text = repr(result)
    assert text.startswith("Segmentation(30 x 40 pixels, 4 labels: ")
    assert text.endswith(", with scores)")
    largest = classes.names[int(np.bincount(result.label_map.ravel()).argmax())]
    assert f"4 labels: {largest} " in text
    assert result._repr_png_().startswith(b"\x89PNG")


# Other processes


def test_a_segmenter_is_opened_again_where_it_is_unpickled(
    exported_bundle: Path, classes: ClassEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported_bundle.parent)
    segmenter = Segmenter.open(exported_bundle.name, backend="onnxruntime", precision="int8", num_threads=1)
    content = pickle.dumps(segmenter)
    assert len(content) < 1000
    monkeypatch.chdir("/")
    for other in (pickle.loads(content), copy.copy(segmenter), copy.deepcopy(segmenter)):
        assert other is not segmenter
        assert (repr(other), other.encoders.num_threads) == (repr(segmenter), 1)
        np.testing.assert_array_equal(
            other.segment(PIXELS, classes).label_map, segmenter.segment(PIXELS, classes).label_map
        )


def test_a_segmenter_of_a_bundle_that_is_gone_or_another_is_not_opened(bundle_copy: Path) -> None:
    segmenter = Segmenter.open(bundle_copy, backend="onnxruntime")
    content = pickle.dumps(segmenter)
    other = content.replace(segmenter.manifest.digest.encode(), b"0" * len(segmenter.manifest.digest))
    with pytest.raises(BundleError, match="is another bundle than when the Segmenter was pickled"):
        pickle.loads(other)
    (bundle_copy / "manifest.json").unlink()
    with pytest.raises(T2DError, match="is not a bundle"):
        pickle.loads(content)


def test_a_fused_segmenter_is_opened_again_too(exported_bundle: Path, classes: ClassEmbeddings) -> None:
    segmenter = FusedSegmenter.open(exported_bundle, backend="onnxruntime", num_threads=1)
    other = pickle.loads(pickle.dumps(segmenter))
    np.testing.assert_array_equal(
        other.segment(PIXELS, classes).label_map, segmenter.segment(PIXELS, classes).label_map
    )


def test_encodings_words_and_results_are_pickled(segmenter: Segmenter) -> None:
    words = {"sky": ["sky", "heaven"], "sea": "sea"}
    classes = segmenter.encode_classes(words, negatives=["wall"], thresholds={"sea": 0.4})
    encoding = segmenter.encode_image(PIXELS)
    result = segmenter.segment(encoding, classes, background=True)
    for copied in (pickle.loads(pickle.dumps((encoding, classes, result))), copy.deepcopy((encoding, classes, result))):
        other_encoding, other_classes, other_result = copied
        arrays = (
            other_encoding.patch_tokens,
            other_encoding.image,
            other_classes.vectors,
            other_classes.classes_of_rows,
        )
        assert [array.flags.writeable for array in arrays] == [False] * 4
        assert isinstance(other_classes.thresholds, MappingProxyType)
        assert other_classes.thresholds == {"sea": 0.4}
        assert repr(other_classes) == repr(classes)
        assert other_result.summary() == result.summary()
        again = segmenter.segment(other_encoding, other_classes, background=True)
        np.testing.assert_array_equal(again.label_map, other_result.label_map)
