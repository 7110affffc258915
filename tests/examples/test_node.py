"""examples/node: the same labels as Python, and one clear line for bad input."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bundle.manifest import sealed

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "node" / "segment.js"

MARGIN = 2e-5
"""What the project guarantees of every engine."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(node: str, fused_bundle: Path, vocabulary: Path, picture: Path, tmp_path: Path) -> Run:
    """Run the example: what is not given is right."""

    def run_example(*options: str, **paths: Path) -> subprocess.CompletedProcess[str]:
        right = {"bundle": fused_bundle, "vocabulary": vocabulary, "picture": picture, "output": tmp_path / "out.png"}
        command = [node, str(PROGRAM), *map(str, (right | paths).values()), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run_example


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_labels_are_those_of_python(
    run: Run,
    background: bool,
    refine: bool,
    check_labels: Callable[..., None],
    segmenter: Segmenter,
    scene: NDArray[np.uint8],
    words: ClassEmbeddings,
    tmp_path: Path,
) -> None:
    done = run(*["--background"] * background, *["--refine"] * refine, "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "scene.png: 224 x 224 pixels" in done.stdout
    picture = Image.open(tmp_path / "out.png")
    check_labels(np.asarray(picture), background, refine)
    expected = segmenter.segment(scene, words, background=background).label_image()
    assert picture.mode == expected.mode == "P"
    colours, ours = (image.getpalette() or [] for image in (picture, expected))
    assert len(colours) == 3 * (len(words) + background)
    assert colours == ours[: len(colours)]
    assert (tmp_path / "out.png").read_bytes()[24] == 8, "bits of a label, which some readers expect"


def test_chosen_words_and_a_threshold(
    run: Run, segmenter: Segmenter, scene: NDArray[np.uint8], words: ClassEmbeddings, tmp_path: Path
) -> None:
    assert run("--classes", "Tree, sky", "--background", "--threshold", "0.6").returncode == 0
    chosen = ClassEmbeddings(("tree", "sky"), words.vectors[[6, 0]], words.digest)
    expected = segmenter.segment(scene, chosen, background=True, threshold=0.6, window="whole").label_map
    assert len(np.unique(expected)) == 3
    assert (np.asarray(Image.open(tmp_path / "out.png")) == expected).mean() > 0.999


def test_any_words_without_a_vocabulary(
    run: Run, fused_bundle: Path, segmenter: Segmenter, scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    """With the text encoder in int8. Processors round its products a little differently."""
    names = ["mountain", "sky", "wooden boat"]
    done = run("--classes", ",".join(names), "--refine", vocabulary=Path("-"))
    assert done.returncode == 0, done.stderr
    words = Segmenter.open(fused_bundle, backend="onnxruntime", precision="int8").encode_classes(names)
    expected = segmenter.segment(scene, words, window="whole", refine=True).label_map
    assert len(np.unique(expected)) > 1
    assert (np.asarray(Image.open(tmp_path / "out.png")) == expected).mean() > 0.97
    (tmp_path / "out.png").unlink()
    refused(run(vocabulary=Path("-")), "without a vocabulary --classes is needed", tmp_path / "out.png")
    refused(run("--classes", "a,A", vocabulary=Path("-")), "“a” and “A” are the same", tmp_path / "out.png")


@pytest.fixture
def grouped(segmenter: Segmenter, tmp_path: Path) -> Path:
    """A vocabulary of two classes of several phrases, one threshold and two negatives."""
    classes = {"ground": ["sand", "sea"], "plant": "tree", "thing": ["boat", "balloon", "umbrella"]}
    words = segmenter.encode_classes(classes, negatives=["sky", "person"], thresholds={"plant": 0.585})
    words.save(tmp_path / "grouped.safetensors")
    return tmp_path / "grouped.safetensors"


@pytest.mark.parametrize(
    ("chosen", "refine"), [(None, False), (None, True), (["thing", "plant"], False)], ids=["all", "refined", "some"]
)
@pytest.mark.parametrize("background", [False, True])
def test_phrases_negatives_and_thresholds(
    run: Run,
    grouped: Path,
    segmenter: Segmenter,
    scene: NDArray[np.uint8],
    chosen: list[str] | None,
    refine: bool,
    background: bool,
    tmp_path: Path,
) -> None:
    words = ClassEmbeddings.load(grouped)
    if not background:
        words = replace(words, thresholds={})
        words.save(grouped)
    words = words if chosen is None else words.subset(chosen)
    options = [*["--background"] * background, *["--refine"] * refine]
    done = run(*options, *(["--classes", ",".join(chosen)] if chosen else []), vocabulary=grouped)
    assert done.returncode == 0, done.stderr
    got = np.asarray(Image.open(tmp_path / "out.png"))
    expected = segmenter.segment(scene, words, background=background, refine=refine, window="whole")
    assert expected.class_names[0] == "background"
    assert len(np.unique(expected.label_map)) > 2
    # Where the best phrase leads by the margin.
    rows = ClassEmbeddings(words.all_phrases, words.vectors, words.digest)
    scores = segmenter.segment(
        scene, rows, background=background, refine=refine, window="whole", keep_scores=True
    ).scores
    assert scores is not None
    default = segmenter.manifest.defaults.threshold
    above = [words.thresholds.get(name, default) for name in words.names] + [default]
    rivals = scores - np.array(above, np.float32)[words.classes_of_rows, None, None]
    if background:
        rivals = np.concatenate([np.zeros_like(rivals[:1]), rivals])
    second, best = np.sort(rivals, axis=0)[-2:]
    firm = best - second > MARGIN
    assert firm.mean() > 0.99
    np.testing.assert_array_equal(got[firm], expected.label_map[firm])
    if background:
        same = replace(words, thresholds={})
        plain = segmenter.segment(scene, same, background=True, refine=refine, window="whole").label_map
        assert (plain != expected.label_map).any(), "the threshold matters"


def test_thresholds_without_background_are_refused(run: Run, grouped: Path, tmp_path: Path) -> None:
    refused(run(vocabulary=grouped), "the thresholds of plant have no effect without", tmp_path / "out.png")


def test_an_older_bundle(node: str, picture: Path, tmp_path: Path) -> None:
    files = Path(__file__).parents[1] / "golden" / "written_by_0.1.0"
    with tarfile.open(files / "bundle.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    older = Segmenter.open(tmp_path / "bundle", backend="onnxruntime")
    output = tmp_path / "out.png"
    words = ClassEmbeddings.load(files / "words.safetensors")
    replace(words, thresholds={"sky": 0.5, "sea": 0.6}).save(tmp_path / "own.safetensors")
    for path in (files / "words.safetensors", tmp_path / "own.safetensors"):
        command = [node, str(PROGRAM), *map(str, (tmp_path / "bundle", path, picture, output)), "--background"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        expected = older.segment(picture, ClassEmbeddings.load(path), background=True, window="whole").label_map
        assert (np.asarray(Image.open(output)) == expected).mean() > 0.999


def test_int8(run: Run, segmenter: Segmenter, scene: NDArray[np.uint8], words: ClassEmbeddings, tmp_path: Path) -> None:
    done = run("--precision", "int8")
    assert done.returncode == 0, done.stderr
    expected = segmenter.segment(scene, words, window="whole").label_map
    agreement = (np.asarray(Image.open(tmp_path / "out.png")) == expected).mean()
    assert 0.97 < agreement < 1, "another precision, and close"


def test_more_than_256_labels_are_16_bit_grey(
    run: Run, words: ClassEmbeddings, segmenter: Segmenter, tmp_path: Path
) -> None:
    names = tuple(f"word {index}" for index in range(300))
    random = np.random.default_rng(0).normal(size=(300, words.vectors.shape[1])).astype(np.float32)
    many = ClassEmbeddings(names, random / np.linalg.norm(random, axis=1, keepdims=True), words.digest)
    many.save(tmp_path / "many.safetensors")
    done = run(vocabulary=tmp_path / "many.safetensors")
    assert done.returncode == 0, done.stderr
    labels = np.asarray(Image.open(tmp_path / "out.png"))
    assert labels.dtype == np.uint16
    assert labels.max() > 255


def grey(scene: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(scene).convert("L")


def transparent(scene: NDArray[np.uint8]) -> Image.Image:
    opacity = np.where(np.indices(scene.shape[:2]).sum(axis=0) % 448 < 224, 255, 0).astype(np.uint8)
    return Image.fromarray(np.dstack([scene, opacity]))


def portrait(scene: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(scene).resize((300, 410))


def one_pixel(scene: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(scene[:1, :1])


def sliver(scene: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(scene[:1])


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("kind", [grey, transparent, portrait, one_pixel, sliver])
def test_pictures_of_every_kind(
    run: Run,
    kind: Callable[[NDArray[np.uint8]], Image.Image],
    refine: bool,
    segmenter: Segmenter,
    scene: NDArray[np.uint8],
    check_labels: Callable[..., None],
    tmp_path: Path,
) -> None:
    path = tmp_path / "picture.png"
    kind(scene).save(path)
    done = run("--background", *["--refine"] * refine, picture=path)
    assert done.returncode == 0, done.stderr
    check_labels(np.asarray(Image.open(tmp_path / "out.png")), True, refine, path)


def test_a_photograph_is_turned_upright(
    run: Run, segmenter: Segmenter, scene: NDArray[np.uint8], words: ClassEmbeddings, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    path = tmp_path / "photo.jpg"
    Image.fromarray(scene[:150]).save(path, exif=exif, quality=95)
    assert run(picture=path).returncode == 0
    labels = np.asarray(Image.open(tmp_path / "out.png"))
    assert labels.shape == (224, 150)
    expected = segmenter.segment(path, words, window="whole").label_map
    assert (labels == expected).mean() > 0.99, "JPEG decoders differ by a level"


def test_48_megapixels(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (8000, 6000), "skyblue").save(path)
    done = run("--classes", "sky,sea", picture=path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as labels:
        assert labels.size == (8000, 6000)


def test_onnx_runtime_sends_nothing_and_leaves_nothing_behind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    done = run()
    assert done.returncode == 0, done
    assert not [*(tmp_path / "HOME").iterdir(), *(tmp_path / "TMPDIR").iterdir()]


def refused(done: subprocess.CompletedProcess[str], message: str, output: Path) -> None:
    """One line that says this, exit status 2, and no output."""
    assert done.returncode == 2, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("segment.js: error: ")
    assert message in lines[0]
    assert not output.exists()
    assert not list(output.parent.glob("*.part"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "7", "--background"], "the threshold is 7, expected 0 to 1"),
        (["--threshold", "high"], "--threshold is high, expected a number"),
        (["--threads", "0"], "--threads is 0, expected 1 or more"),
        (["--classes", "sky,zebra"], "“zebra”: not among the 8 words of this vocabulary"),
        (["--classes", ""], "“”: not among the 8 words"),
        (["--precision", "fp8"], "the bundle has no precisions/fp8/image_encoder.onnx, only image_encoder.onnx, "),
        (["--colour"], "Unknown option '--colour'"),
        (["surplus"], "expected BUNDLE VOCABULARY PICTURE LABELS.png, got 5 of these"),
    ],
)
def test_bad_options_are_refused(run: Run, options: list[str], message: str, tmp_path: Path) -> None:
    refused(run(*options), message, tmp_path / "out.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such picture"),
        (b"", "is empty; expected a JPEG, PNG or WebP picture"),
        (b"no picture", "cannot be decoded, expected a JPEG, PNG or WebP picture"),
    ],
)
def test_another_picture_is_refused(run: Run, content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    refused(run(picture=path), message, tmp_path / "out.png")


def test_a_truncated_and_an_enormous_picture_are_refused(run: Run, picture: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(picture.read_bytes()[:5000])
    refused(run(picture=path), "cannot be decoded", tmp_path / "out.png")
    Image.new("1", (20000, 20000)).save(path)
    refused(run(picture=path), "has more than 89478485 pixels, the limit", tmp_path / "out.png")


def test_the_vocabulary_of_another_bundle_is_refused(run: Run, words: ClassEmbeddings, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    replace(words, digest="0" * 64).save(path)
    refused(run(vocabulary=path), "made with another text encoder (digest 000000000000…", tmp_path / "out.png")
    replace(words, vectors=np.eye(len(words.names), 100, dtype=np.float32)).save(path)
    refused(run(vocabulary=path), "vectors have width 100, this bundle's have 192", tmp_path / "out.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "is not a vocabulary file (0 bytes)"),
        (lambda content: b"some text that is no vocabulary", "no safetensors header"),
        (lambda content: content[:-1], "it is cut short or damaged"),
        (lambda content: content[:100], "no safetensors header, or it is cut short"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "does not have its checksum"),
        (lambda content: content.replace(b"t2d-vocabulary", b"t2d-vocabulare"), "its format is t2d-vocabulare"),
        (
            lambda content: content.replace(b'"version":"1"', b'"version":"3"'),
            "version 3 of the format, expected 1 or 2",
        ),
        (lambda content: content.replace(b'"version":"1"', b'"version":"2"'), "is not a vocabulary file"),
        (lambda content: content.replace(b'"F32"', b'"F16"'), "text_embeds is F16 [8,192], expected F32 [N,D]"),
        (lambda content: content.replace(b"text_embeds", b"image_embed"), "is not a vocabulary file"),
    ],
)
def test_a_damaged_vocabulary_is_refused(
    run: Run, vocabulary: Path, damage: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "words.safetensors"
    path.write_bytes(damage(vocabulary.read_bytes()))
    refused(run(vocabulary=path), message, tmp_path / "out.png")


def test_another_bundle_is_refused(run: Run, fused_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    refused(run(bundle=tmp_path / "nowhere"), "manifest.json: no such bundle", output)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    text = (fused_bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text)
    refused(run(bundle=bundle), "image_encoder.onnx cannot be read: ENOENT", output)
    shutil.copyfile(fused_bundle / "image_encoder.onnx", bundle / "image_encoder.onnx")
    with (bundle / "image_encoder.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(hashlib.sha256(b"damage").digest())
    refused(run(bundle=bundle), "image_encoder.onnx is not the file that manifest.json names", output)
    manifest = json.loads(text)
    del manifest["files"]["image_encoder.onnx"]
    (bundle / "manifest.json").write_text(sealed(manifest))
    refused(run(bundle=bundle), "the bundle has no image_encoder.onnx, only precisions/", output)
    for version, advice in ((1, "export the bundle again"), (3, "take a newer version of this program")):
        (bundle / "manifest.json").write_text(json.dumps(manifest | {"schema_version": version}))
        refused(run(bundle=bundle), f"is of schema version {version}, this program reads 2; {advice}", output)
    changed = text.replace('"cleaning_weight": 0', '"cleaning_weight": 1')
    assert changed != text
    for content in ("{", "[]", "{}", '{"schema_version": 2}', changed):
        (bundle / "manifest.json").write_text(content)
        refused(run(bundle=bundle), "manifest.json is not a bundle's manifest", output)


def test_an_output_that_cannot_be_written_is_refused(run: Run, tmp_path: Path) -> None:
    refused(run(output=tmp_path / "nowhere" / "out.png"), "cannot write", tmp_path / "out.png")
