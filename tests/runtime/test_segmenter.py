"""The public contract of `Segmenter`, on the small model."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bundle.files import EXTERNAL_DATA_SUFFIX, IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER
from t2d_runtime.bundle.manifest import FileRecord
from t2d_runtime.encoders import WINDOW_BATCH
from t2d_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    ClassNamesError,
    ImageError,
    ImageNotFoundError,
    OptionError,
    VocabularyError,
)
from t2d_runtime.proof.parity import compare_labels
from t2d_runtime.results.label_map import MAX_LABELS
from t2d_runtime.results.options import SegmentOptions


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = data.astronaut()[:300, :400]
    return image


def test_a_result_has_the_size_of_the_image_and_the_names_of_the_words(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    result = segmenter.segment(photograph, classes)
    assert result.label_map.shape == (300, 400)
    assert result.label_map.dtype == np.uint8
    assert result.class_names == ("sky", "grass", "person", "road")
    assert result.scores is None


def test_labels_are_the_arg_max_of_the_kept_scores(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    result = segmenter.segment(photograph, classes, background=True, threshold=0.5, refine=True, keep_scores=True)
    assert result.scores is not None
    assert result.scores.shape == (4, 300, 400)
    assert result.scores.dtype == np.float32
    assert 0 <= result.scores.min() <= result.scores.max() <= 1
    planes = np.concatenate([np.full((1, 300, 400), 0.5, np.float32), result.scores])
    np.testing.assert_array_equal(result.label_map, planes.argmax(axis=0))
    assert result.class_names == ("background", *classes.names)


@pytest.mark.parametrize(("threshold", "expected"), [(1.0, True), (0.0, False)])
def test_the_threshold_decides_what_is_background(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8], threshold: float, expected: bool
) -> None:
    labels = segmenter.segment(photograph, classes, background=True, threshold=threshold).label_map
    assert (labels == 0).all() == expected
    assert (labels == 0).any() == expected


def test_an_encoding_is_segmented_again_with_other_words(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    encoding = segmenter.encode_image(photograph)
    W, h, w, D = encoding.patch_tokens.shape
    assert (W, h, w) == (len(encoding.windows), *segmenter.manifest.model.grid_size)
    assert segmenter.manifest.model.embed_dim == D
    assert encoding.cls_attention.shape == (W, segmenter.manifest.model.num_heads, h, w)
    first = segmenter.segment(encoding, classes)
    other = segmenter.segment(encoding, segmenter.encode_classes(["mountain", "sea"]))
    again = segmenter.segment(photograph, classes)
    np.testing.assert_array_equal(first.label_map, again.label_map)
    assert other.class_names == ("mountain", "sea")


def test_a_batch_gives_what_its_images_give(segmenter: Segmenter, classes: ClassEmbeddings, tmp_path: Path) -> None:
    astronaut = np.asarray(data.astronaut())
    path = tmp_path / "photograph.png"
    Image.fromarray(astronaut[:100, :90]).save(path)
    images = [astronaut[:300, :400], path, Image.fromarray(astronaut[:50, :200]), astronaut[:1, :7]]
    options: SegmentOptions = {"background": True, "refine": True, "keep_scores": True, "window": "whole"}
    batch = list(segmenter.segment_batch(iter(images), classes, **options))
    assert len(batch) == len(images)
    for image, result in zip(images, batch, strict=True):
        alone = segmenter.segment(image, classes, **options)
        np.testing.assert_array_equal(result.label_map, alone.label_map)
        np.testing.assert_array_equal(result.image, alone.image)
        np.testing.assert_array_equal(result.scores, alone.scores)
        assert result.settings == alone.settings


def test_a_bad_image_of_a_batch_raises_in_its_place(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    results = segmenter.segment_batch([photograph, "nowhere.jpg", photograph], classes)
    assert next(results).label_map.shape == (300, 400)
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.jpg"):
        next(results)
    assert next(results, None) is None


def test_an_encoding_of_another_bundle_is_refused(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    foreign = replace(segmenter.encode_image(photograph), model_digest="0" * 64)
    with pytest.raises(OptionError, match=r"encoded with another bundle \(digest 000000000000…, this bundle's is"):
        segmenter.segment(foreign, classes)


def test_a_result_says_what_the_image_was_encoded_with(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    encoding = replace(segmenter.encode_image(photograph), backend="elsewhere", precision="int8")
    settings = segmenter.segment(encoding, classes).settings
    assert (settings.backend, settings.precision) == ("elsewhere", "int8")


def test_the_digests_name_every_file_that_decides(exported_bundle: Path) -> None:
    """The encoders' external weights too, and the tokenizer, which decides what words mean."""
    segmenter = Segmenter.open(exported_bundle, backend="onnxruntime")
    manifest = segmenter.manifest
    digests = {(segmenter.model_digest, segmenter.vocabulary_digest)}
    graphs = (IMAGE_ENCODER, TEXT_ENCODER)
    for name in (*graphs, *(graph + EXTERNAL_DATA_SUFFIX for graph in graphs), TOKENIZER):
        changed = replace(manifest, files={**manifest.files, name: FileRecord("0" * 64, 1)})
        segmenter.bundle.manifest = changed
        digests.add((segmenter.model_digest, segmenter.vocabulary_digest))
    assert len(digests) == 6


def test_an_encoding_cannot_be_written_to(segmenter: Segmenter, photograph: NDArray[np.uint8]) -> None:
    encoding = segmenter.encode_image(photograph)
    for array in (encoding.patch_tokens, encoding.cls_attention, encoding.resized):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_callers_image_stays_writeable(segmenter: Segmenter, photograph: NDArray[np.uint8]) -> None:
    image = photograph.copy()
    segmenter.encode_image(image)
    image[0] = 0


def test_permuting_the_words_permutes_the_labels(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    order = [2, 0, 3, 1]
    permuted = segmenter.encode_classes([classes.names[i] for i in order])
    encoding = segmenter.encode_image(photograph)
    straight = segmenter.segment(encoding, classes, cleaning="official", refine=True, keep_scores=True).scores
    turned = segmenter.segment(encoding, permuted, cleaning="official", refine=True, keep_scores=True).scores
    assert straight is not None
    assert turned is not None
    np.testing.assert_allclose(turned, straight[order], atol=1e-6, rtol=0)


def test_windows_give_what_each_gives_alone(segmenter: Segmenter) -> None:
    windows = np.stack([np.asarray(data.astronaut())[i * 20 : i * 20 + 224, :224] for i in range(3)])
    together = segmenter.encoders.run_image_encoder(windows)
    for i in range(3):
        alone = segmenter.encoders.run_image_encoder(windows[i : i + 1])
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], together[name][i], atol=2e-5, rtol=0)


def test_the_whole_image_can_be_one_window(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    image = np.asarray(data.astronaut())[:224, :448]
    assert len(segmenter.encode_image(image, "slide").windows) == 3
    encoding = segmenter.encode_image(image, "whole")
    assert len(encoding.windows) == 1
    assert segmenter.segment(image, classes, window="whole").settings.window == "whole"


@pytest.mark.parametrize("cleaning", ["official", "paper"])
def test_cleaning_changes_scores_and_follows_background(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8], cleaning: Any
) -> None:
    encoding = segmenter.encode_image(photograph)
    plain = segmenter.segment(encoding, classes, keep_scores=True)
    cleaned = segmenter.segment(encoding, classes, cleaning=cleaning, keep_scores=True)
    assert plain.scores is not None
    assert cleaned.scores is not None
    assert np.abs(plain.scores - cleaned.scores).max() > 1e-4
    assert segmenter.segment(encoding, classes, background=True).settings.cleaning == "official"
    assert segmenter.segment(encoding, classes, background=True, cleaning=False).settings.cleaning is None


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("refine", [False, True])
def test_labels_without_kept_scores_are_those_of_the_scores(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8], background: bool, refine: bool
) -> None:
    encoding = segmenter.encode_image(photograph)
    names = tuple(f"{name} {i}" for i in range(3) for name in classes.names)
    rng = np.random.default_rng(0)
    noisy = np.tile(classes.vectors, (3, 1)) + rng.normal(0, 0.02, (12, classes.vectors.shape[1])).astype(np.float32)
    words = replace(classes, names=names, vectors=noisy / np.linalg.norm(noisy, axis=1, keepdims=True))
    middle = float(np.median(segmenter.segment(encoding, words, keep_scores=True).scores))  # type: ignore[arg-type]
    options: SegmentOptions = {"background": background, "refine": refine}
    if background:
        options["threshold"] = middle
    fast = segmenter.segment(encoding, words, **options)
    plain = segmenter.segment(encoding, words, **options, keep_scores=True)
    assert plain.scores is not None
    planes = np.concatenate([np.full((1, 300, 400), middle, np.float32), plain.scores]) if background else plain.scores
    best, second = np.sort(planes, axis=0)[:-3:-1]
    parity = compare_labels("labels", plain.label_map, fast.label_map, best - second)
    assert parity.passed
    assert parity.share_below_margin is not None
    assert parity.share_below_margin < 0.1


def test_many_words_need_wider_labels(segmenter: Segmenter, photograph: NDArray[np.uint8]) -> None:
    few = segmenter.encode_classes([f"thing {i}" for i in range(256)], prompts="identity")
    many = segmenter.encode_classes([f"thing {i}" for i in range(256)], prompts="identity")
    assert segmenter.segment(photograph, few).label_map.dtype == np.uint8
    assert segmenter.segment(photograph, many, background=True).label_map.dtype == np.uint16


@pytest.mark.parametrize("background", [False, True])
def test_more_words_than_labels_are_refused(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8], background: bool
) -> None:
    count = MAX_LABELS - background + 1
    width = classes.vectors.shape[1]
    vectors = np.broadcast_to(np.eye(1, width, dtype=np.float32), (count, width))
    many = replace(classes, names=tuple(map(str, range(count))), vectors=vectors)
    with pytest.raises(ClassNamesError, match=f"{count} class names, expected at most {count - 1}"):
        segmenter.segment(photograph, many, background=background)


def test_windows_are_encoded_a_few_at_a_time(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    engine: Any = segmenter.encoders._image_encoder
    right = engine.run

    def counted(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        sizes.append(len(inputs["pixel_values"]))
        return dict(right(inputs))

    monkeypatch.setattr(engine, "run", counted)
    side = segmenter.manifest.windows.short_side
    windows = len(segmenter.encode_image(np.zeros((side, 4 * side, 3), np.uint8)).windows)
    assert windows == sum(sizes) == 7
    assert max(sizes) == WINDOW_BATCH


def test_prompts_are_a_set_or_templates(segmenter: Segmenter) -> None:
    by_name = segmenter.encode_classes(["boat"], prompts="simple")
    by_template = segmenter.encode_classes(["boat"], prompts=["a photo of a {}."])
    np.testing.assert_array_equal(by_name.vectors, by_template.vectors)
    with pytest.raises(OptionError, match="unknown prompt set 'poems', expected one of"):
        segmenter.encode_classes(["boat"], prompts="poems")
    with pytest.raises(OptionError, match=r"\{\}"):
        segmenter.encode_classes(["boat"], prompts=["a photo of a boat"])


def test_a_saved_vocabulary_segments_alike(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "words.npz"
    classes.save(path)
    loaded = ClassEmbeddings.load(path)
    expected = segmenter.segment(photograph, classes).label_map
    np.testing.assert_array_equal(segmenter.segment(photograph, loaded).label_map, expected)


def test_a_vocabulary_of_another_bundle_is_refused(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    with pytest.raises(VocabularyError, match="made with another text encoder"):
        segmenter.segment(photograph, replace(classes, digest="0" * 64))
    with pytest.raises(VocabularyError, match="have width 8, this bundle's have"):
        segmenter.segment(photograph, replace(classes, vectors=np.eye(len(classes.names), 8, dtype=np.float32)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.encode_classes([]), ClassNamesError, "at least one class name"),
        (lambda s: s.encode_classes(["sky", "   "]), ClassNamesError, "a blank name"),
        (lambda s: s.encode_classes(["sky", "sea", "sky"]), ClassNamesError, "'sky'"),
        (lambda s: s.encode_image("nowhere.jpg"), ImageNotFoundError, "nowhere.jpg"),
        (lambda s: s.encode_image(np.zeros((4, 4, 2), np.uint8)), ImageError, "shape (H, W, 3)"),
        (lambda s: s.encode_image(np.zeros((4, 4, 3), np.float32)), ImageError, "uint8"),
        (lambda s: s.encode_image(np.zeros((9, 9, 3), np.uint8), "tiles"), OptionError, "window is 'tiles'"),
    ],
)
def test_bad_input_is_named(
    segmenter: Segmenter, call: Callable[[Segmenter], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)")):
        call(segmenter)


def test_an_unknown_backend_is_an_error_that_lists_what_there_is(exported_bundle: Path) -> None:
    with pytest.raises(OptionError, match="unknown backend 'tpu', expected one of"):
        Segmenter.open(exported_bundle, backend="tpu")
    with pytest.raises(BackendUnavailableError, match="needs CUDAExecutionProvider, but the installed onnxruntime"):
        Segmenter.open(exported_bundle, backend="onnxruntime-cuda")
    with pytest.raises(OptionError, match="num_threads is 0"):
        Segmenter.open(exported_bundle, num_threads=0)


def test_values_that_are_not_finite_are_never_labelled(
    segmenter: Segmenter, photograph: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = segmenter.encoders._image_encoder
    assert engine is not None
    right = engine.run

    def broken(inputs: Any) -> dict[str, NDArray[Any]]:
        outputs = right(inputs)
        outputs["patch_tokens"][0, 3, 5] = np.nan
        return outputs

    monkeypatch.setattr(engine, "run", broken)
    with pytest.raises(BackendError, match="patch_tokens holds values that are not finite"):
        segmenter.encode_image(photograph)


def test_several_threads_get_what_one_gets(
    segmenter: Segmenter, classes: ClassEmbeddings, photograph: NDArray[np.uint8]
) -> None:
    images = [np.roll(photograph, shift, axis=1) for shift in (0, 50, 100, 150)]
    alone = [segmenter.segment(image, classes).label_map for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: segmenter.segment(image, classes).label_map, images))
    for expected, got in zip(alone, together, strict=True):
        np.testing.assert_array_equal(expected, got)


def _tagged(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    image.save(path, exif=exif)


ODD_FILES: dict[str, tuple[Callable[[Image.Image, Path], object], tuple[int, int]]] = {
    "grey.png": (lambda image, path: image.convert("L").save(path), (128, 160)),
    "palette.gif": (lambda image, path: image.convert("P").save(path), (128, 160)),
    "rgba.png": (lambda image, path: image.convert("RGBA").save(path), (128, 160)),
    "sixteen.png": (lambda image, path: image.convert("L").convert("I;16").save(path), (128, 160)),
    "cmyk.jpg": (lambda image, path: image.convert("CMYK").save(path), (128, 160)),
    "turned.jpg": (_tagged, (160, 128)),
    "row.png": (lambda image, path: image.resize((1000, 1)).save(path), (1, 1000)),
    "column.png": (lambda image, path: image.resize((1, 1000)).save(path), (1000, 1)),
    "pixel.png": (lambda image, path: image.resize((1, 1)).save(path), (1, 1)),
    "large.jpg": (lambda image, path: image.resize((6000, 4000)).save(path), (4000, 6000)),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_images_of_every_mode_and_size(
    segmenter: Segmenter, classes: ClassEmbeddings, tmp_path: Path, name: str
) -> None:
    write, size = ODD_FILES[name]
    write(Image.fromarray(data.coffee()).resize((160, 128)), tmp_path / name)
    result = segmenter.segment(tmp_path / name, classes, background=True)
    assert result.label_map.shape == size
    assert sum(label["pixels"] for label in result.summary()["labels"]) == size[0] * size[1]


@pytest.mark.parametrize(
    "name", ["astronaut", "coffee", "chelsea", "rocket", "camera", "coins", "page", "text", "moon"]
)
def test_photographs(segmenter: Segmenter, classes: ClassEmbeddings, name: str) -> None:
    photograph = Image.fromarray(getattr(data, name)())
    result = segmenter.segment(photograph, classes)
    assert result.label_map.shape == (photograph.height, photograph.width)
    assert result.overlay().mode == "RGB"


def test_a_copied_bundle_needs_no_network(
    bundle_copy: Path, photograph: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    segmenter = Segmenter.open(bundle_copy, backend="onnxruntime")
    result = segmenter.segment(photograph, segmenter.encode_classes(["sky", "sea"]), refine=True)
    assert result.label_map.shape == (300, 400)
