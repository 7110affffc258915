"""Formats: what each file holds, the registry, and files that collect a whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import Segmentation, Segmenter
from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.cli import main
from t2d_runtime.errors import OptionError, OutputError
from t2d_runtime.masks import score_planes
from t2d_runtime.results import formats, label_map, outputs
from t2d_runtime.results.formats import DEFAULT_FORMATS, FORMATS, ImageResult, OutputOptions, RunFormat
from t2d_runtime.results.formats import scores as scores_format
from t2d_runtime.results.label_map import label_counts
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.results.outputs import ResultWriter, formats_of
from t2d_runtime.results.shapes import boxes
from t2d_runtime.results.shapes.boxes import label_boxes
from t2d_runtime.storage.own_files import GENERATOR, is_own

SETTINGS = SegmentationSettings(
    background=False,
    cleaning=None,
    threshold=0.5,
    cleaning_weight=1.0,
    refine=PamrSettings((1,), 1),
    window="slide",
    backend="none",
    precision="fp32",
)


def result_of(num_labels: int, scores: NDArray[np.float32] | None = None, size: tuple[int, int] = (20, 30)) -> Any:
    height, width = size
    labels = (np.arange(height * width) % num_labels).reshape(size).astype(np.uint8 if num_labels <= 256 else np.uint16)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Segmentation(image, labels, tuple(f"name {index}" for index in range(num_labels)), scores, SETTINGS)


def written(result: Segmentation, name: str, folder: Path) -> Path:
    with ResultWriter(folder, formats_of(name)) as writer:
        (path,) = writer.write(ImageResult(result, "a.png"), PurePath("a"))
    return path


@pytest.mark.parametrize("num_labels", [1, 2, 3, 4, 5, 16, 17, 256, 257, 600])
@pytest.mark.parametrize("name", ["png", "grey"])
def test_label_pictures_have_8_bits_a_pixel_or_16(tmp_path: Path, num_labels: int, name: str) -> None:
    result = result_of(num_labels)
    path = written(result, name, tmp_path)
    depth, colour_type = path.read_bytes()[24:26]
    kind = {"png": 3, "grey": 0}[name] if num_labels <= 256 else 0
    assert (depth, colour_type) == (8 if num_labels <= 256 else 16, kind)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), result.label_map)


def test_pictures_saved_from_python_have_8_bits_too(tmp_path: Path) -> None:
    result_of(2).label_image().save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[24] == 8


def test_npz_has_labels_and_names_alone(tmp_path: Path) -> None:
    result = result_of(3, np.zeros((3, 20, 30), np.float32))
    with np.load(written(result, "npz", tmp_path)) as archive:
        assert set(archive) == {"generator", "label_map", "class_names"}
        assert str(archive["generator"]) == GENERATOR
        np.testing.assert_array_equal(archive["label_map"], result.label_map)


def test_scores_are_float16_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).random((3, 20, 30), np.float32)
    assert "float16" in FORMATS["scores"].description
    monkeypatch.setattr(scores_format, "PIECE", 77)
    with np.load(written(result_of(3, scores), "scores", tmp_path)) as archive:
        assert list(archive["class_names"]) == ["name 0", "name 1", "name 2"]
        np.testing.assert_array_equal(archive["scores"], scores.astype(np.float16))
    with pytest.raises(OptionError, match="keep_scores=True"):
        written(result_of(3), "scores", tmp_path)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("size", [(40, 60), (448, 600)])
def test_score_planes_are_the_scores_that_are_kept(
    segmenter: Segmenter, size: tuple[int, int], refine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In groups of classes, and of several phrases each."""
    monkeypatch.setattr(score_planes, "CLASS_GROUP", 2)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    words = {"sky": ["sky", "heaven", "clouds"], "sea": "sea", "sand": ["sand", "beach"]}
    classes = segmenter.encode_classes(words, negatives=["wall"])
    encoding = segmenter.encode_image(image)
    kept = segmenter.segment(encoding, classes, background=True, refine=refine, keep_scores=True).scores
    assert kept is not None
    planes = segmenter.score_planes(encoding, classes, background=True, refine=refine)
    assert planes.shape == kept.shape == (3, *size)
    np.testing.assert_allclose(np.stack(list(planes)), kept, atol=1e-6)
    np.testing.assert_array_equal(next(iter(segmenter.score_planes(image, ["sky"]))).shape, size)


def test_json_is_the_summary_with_the_program_in_front(tmp_path: Path) -> None:
    result = result_of(3)
    content = json.loads(written(result, "json", tmp_path).read_text())
    assert next(iter(content.items())) == ("generator", GENERATOR)
    del content["generator"]
    assert content == json.loads(json.dumps(result.summary()))


def test_an_overlay_takes_the_options_of_drawing(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, formats_of("overlay"), OutputOptions(legend=False)) as writer:
        (path,) = writer.write(ImageResult(result_of(3), "a.png"), PurePath("a"))
    with Image.open(path) as picture:
        assert picture.size == (30, 20)


# The registry


def test_formats_are_found_by_name() -> None:
    assert [found.name for found in formats_of(" Overlay ,PNG,json,png,")] == ["overlay", "png", "json"]
    assert set(DEFAULT_FORMATS) <= set(FORMATS)
    assert [found.name for found in FORMATS.values()] == list(FORMATS)
    for text in ("bmp", "png,bmp", "", " , "):
        with pytest.raises(OptionError, match=r"output format.*expected some of overlay, png, .*csv, separated by"):
            formats_of(text)


def test_the_help_lists_every_format(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit):
        main(["segment", "--help"])
    text = capsys.readouterr().out
    assert all(f"{name}: {found.description}" in text for name, found in FORMATS.items())
    assert f"default: {','.join(DEFAULT_FORMATS)}" in text


class Lines:
    """A file of one line an image."""

    def __init__(self, file: BinaryIO, fail_at: str | None) -> None:
        self._file = file
        self._fail_at = fail_at
        file.write(f'{{"generator": "{GENERATOR}", "images": ['.encode())

    def add(self, item: ImageResult) -> None:
        if item.image == self._fail_at:
            raise OSError(28, "No space left on device")
        self._file.write(f'"{item.image}", '.encode())

    def finish(self) -> None:
        if self._fail_at == "the end":
            raise OSError(28, "No space left on device")
        self._file.write(b"0]}")

    def close(self) -> None:
        pass


def lines_format(fail_at: str | None = None) -> RunFormat:
    return RunFormat("lines", "run.json", "the images' names", lambda file, options: Lines(file, fail_at))


def test_a_file_of_the_whole_run_is_written_at_its_end(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FORMATS, "lines", lines_format())
    for name in ("b.png", "in/a.png", "c.png"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "run" / name)
    (tmp_path / "run" / "c.png").write_bytes(b"damaged")
    output = tmp_path / "out"
    arguments = ["segment", str(exported_bundle), str(tmp_path / "run"), "--recursive", "--classes", "sky"]
    arguments += ["--backend", "onnxruntime", "--format", "json,lines", "--output", str(output)]
    for _ in range(2):
        assert main(arguments) == 1
        assert json.loads((output / "run.json").read_text())["images"] == ["b.png", "in/a.png", 0]
    assert is_own(output / "run.json")
    capsys.readouterr()
    (output / "run.json").write_text("mine")
    assert main(arguments) == 2
    assert "run.json exists and is not a result" in capsys.readouterr().err
    assert (output / "run.json").read_text() == "mine"


def test_a_file_of_the_run_that_fails_at_the_end_leaves_those_of_the_images(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FORMATS, "lines", lines_format(fail_at="the end"))
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["segment", str(exported_bundle), str(tmp_path / "a.png"), "--classes", "sky", "--backend"]
    assert main([*arguments, "onnxruntime", "--format", "json,lines", "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.strip().endswith("run.json: No space left on device; free some space")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.json"]


def test_an_image_does_not_take_the_name_of_the_run_s_file(tmp_path: Path) -> None:
    from t2d_runtime.commands.inputs import InputImage
    from t2d_runtime.commands.output_names import output_names

    writer = ResultWriter(tmp_path, [*formats_of("json"), lines_format()])
    names = output_names([InputImage(Path("run.png"))], writer.paths_of, writer.paths_of_run)
    assert [name.name for name in names] == ["run.png"]


def test_a_run_that_is_interrupted_leaves_no_file_of_it(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ResultWriter(tmp_path, [lines_format()]) as writer:
            writer.write(ImageResult(result_of(2), "a.png"), PurePath("a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_run_that_failed_once_is_not_finished(tmp_path: Path) -> None:
    failures = []

    def run() -> None:
        with ResultWriter(tmp_path, [lines_format(fail_at="b.png")]) as writer:
            for name in ("a.png", "b.png", "c.png"):
                try:
                    writer.write(ImageResult(result_of(2), name), PurePath(name))
                except OutputError as error:
                    failures.append((name, str(error)))

    with pytest.raises(OutputError, match=r"cannot write .*run.json: No space left on device; free some space"):
        run()
    assert [name for name, _ in failures] == ["b.png", "c.png"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_results_leaves_no_file(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, [lines_format()]):
        pass
    assert list(tmp_path.iterdir()) == []
    assert isinstance(formats.FORMATS["png"], outputs.FileFormat)


# Areas and boxes


def plain_boxes(labels: NDArray[Any], num_labels: int) -> list[list[int] | None]:
    boxes: list[list[int] | None] = []
    for label in range(num_labels):
        rows, columns = np.nonzero(labels == label)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None
        boxes.append(None if box is None else [int(side) for side in box])
    return boxes


@pytest.mark.parametrize("band", [1, 5, 40, 1 << 20])
@pytest.mark.parametrize("make", [lambda r: r.integers(0, 5, (23, 17)), lambda r: np.triu(np.ones((23, 17), int)) * 3])
def test_areas_and_boxes_are_the_same_in_bands(
    monkeypatch: pytest.MonkeyPatch, band: int, make: Callable[[np.random.Generator], NDArray[Any]]
) -> None:
    monkeypatch.setattr(label_map, "BAND", band)
    monkeypatch.setattr(boxes, "REGION", band)
    labels = make(np.random.default_rng(1)).astype(np.uint8)
    assert label_boxes(labels, 7) == plain_boxes(labels, 7)
    np.testing.assert_array_equal(label_counts(labels, 7), [(labels == label).sum() for label in range(7)])


def test_a_summary_makes_no_index_of_every_pixel() -> None:
    import tracemalloc

    result = result_of(5, size=(2000, 2000))
    tracemalloc.start()
    result.summary()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * result.label_map.size  # one array of indices of 8 bytes


@pytest.mark.parametrize("shape", [(1, 300_000), (300_000, 1)])
def test_boxes_of_many_labels_in_a_long_map_need_little_memory(shape: tuple[int, int]) -> None:
    import tracemalloc

    labels = (np.arange(300_000) // 300).astype(np.uint16).reshape(shape)
    tracemalloc.start()
    found = label_boxes(labels, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[7] == ([2100, 0, 2400, 1] if shape[0] == 1 else [0, 2100, 1, 2400])
    assert peak < 100 * labels.size  # a table of columns and labels has 1000 entries for each
