"""`t2d words`: figures of words on labelled images, and a class file with thresholds; label files of every kind."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime.cli import main
from t2d_runtime.errors import ClassNamesError, DataError, ImageError, OutputError, T2DError
from t2d_runtime.evaluation.label_files import LabelFile, label_name, read_labels, truth_of
from t2d_runtime.words.class_file_writer import write_class_file
from t2d_runtime.words.class_files import read_class_file
from t2d_runtime.words.class_list import ClassList, checked_classes

CLASSES = "sky; cloud\ngrass @0.52\n- wall\n"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Five images of noise, and labels of which the left half is sky, the rest grass or background."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / f"images/{index}.jpg")
        labels = np.zeros((40, 60), np.uint8)
        labels[:, :30], labels[20:, 30:] = 1, 2
        Image.fromarray(labels).save(tmp_path / f"labels/{index}.png")
    (tmp_path / "classes.txt").write_text(CLASSES)
    return tmp_path


def words(bundle: Path, folder: Path, *more: str) -> int:
    given = ["--labels", str(folder / "labels"), "--classes-file", str(folder / "classes.txt")]
    return main(["words", str(bundle), str(folder / "images"), *given, "--backend", "onnxruntime", *more])


def test_figures_and_a_class_file(exported_bundle: Path, labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = labelled / "found.txt"
    for _ in range(2):  # its own file is replaced
        assert words(exported_bundle, labelled, "--output", str(output)) == 0
        first, content = capsys.readouterr().out, output.read_text()
    lines = first.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["class", "sky", "sky", "cloud", "grass"]
    assert lines[4].split()[2] == "0.520"
    assert lines[5].startswith("mIoU 0.")
    assert "on images left out; 12000 pixels of 5 images, background counted" in lines[5]
    assert f"# {lines[5]}" in content.splitlines()
    assert lines[6].startswith("one threshold for all: 0.")
    found = read_class_file(output)
    assert dict(found.phrases) == {"sky": ("sky", "cloud"), "grass": ("grass",)}
    assert found.negatives == ("wall",)
    assert set(found.thresholds) == {"sky", "grass"}
    assert lines[1].split()[3] == f"{found.thresholds['sky']:.3f}"
    segmented = ["--classes-file", str(output), "--background", "--output", str(labelled / "out"), "--format", "json"]
    assert main(["segment", str(exported_bundle), str(labelled / "images"), *segmented]) == 0


def test_classes_of_one_phrase_each(exported_bundle: Path, labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labelled / "classes.txt").write_text("sky\ngrass\n")
    assert words(exported_bundle, labelled) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "class",
        "sky",
        "grass",
        "mIoU",
        "one",
    ]


def test_perfect_labels_have_an_iou_of_one(
    exported_bundle: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--classes-file", str(labelled / "classes.txt"), "--background", "--threshold", "0.5"]
    results = ["--output", str(labelled / "results"), "--format", "npz,overlay,scores"]
    assert main(["segment", str(exported_bundle), str(labelled / "images"), *given, *results]) == 0
    capsys.readouterr()
    more = ["--labels", str(labelled / "results"), "--threshold", "0.5"]
    assert words(exported_bundle, labelled, *more) == 0
    assert "mIoU 1.000 as given" in capsys.readouterr().out


def test_other_names_of_labels_are_background_and_said(
    exported_bundle: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = labelled / "names.json"
    names.write_text(json.dumps(["sky", "sea", "grass"]))
    assert words(exported_bundle, labelled, "--label-names", str(names)) == 0
    assert capsys.readouterr().out.startswith("labels that are not classes, counted as background: sea\n")


def unlabelled(folder: Path) -> None:
    (folder / "labels" / "3.png").unlink()


def of_another_size(folder: Path) -> None:
    Image.new("L", (61, 40), 1).save(folder / "labels" / "3.png")


def of_another_value(folder: Path) -> None:
    Image.new("L", (60, 40), 7).save(folder / "labels" / "3.png")


def of_no_class(folder: Path) -> None:
    for path in (folder / "labels").iterdir():
        Image.new("L", (60, 40), 0).save(path)


def without_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def without_labels(folder: Path) -> None:
    (folder / "labels").rename(folder / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unlabelled, "labels has no labels for 3.jpg; expected a file of the same name"),
        (of_another_size, "3.jpg have 61 x 40 pixels, the image 60 x 40; expected the same size"),
        (of_another_value, "3.png holds the values 7, but the labels are 0 to 2: background, sky, grass"),
        (of_no_class, "none of the classes occurs in the labels"),
        (without_images, "images holds no image"),
        (without_labels, "labels is no folder"),
    ],
)
def test_what_cannot_be_judged_is_one_line(
    exported_bundle: Path,
    labelled: Path,
    damage: Callable[[Path], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(labelled)
    assert words(exported_bundle, labelled, "--output", str(labelled / "found.txt")) == 2
    complaint = capsys.readouterr().err.strip()
    assert message in complaint
    assert "\n" not in complaint
    assert not (labelled / "found.txt").exists()


def test_an_input_and_another_file_are_not_replaced(
    exported_bundle: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words(exported_bundle, labelled, "--output", str(labelled / "classes.txt")) == 2
    assert "is an input of this run" in capsys.readouterr().err
    (labelled / "mine.txt").write_text("mine")
    assert words(exported_bundle, labelled, "--output", str(labelled / "mine.txt")) == 2
    assert "is not a result of t2d-runtime" in capsys.readouterr().err
    assert (labelled / "classes.txt").read_text() == CLASSES


LABELS = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)


def palette(folder: Path) -> Path:
    picture = Image.fromarray(LABELS, mode="L")
    picture.putpalette(list(range(256)) * 3)
    picture.save(folder / "a.png")
    return folder / "a.png"


def grey(folder: Path) -> Path:
    Image.fromarray(LABELS).save(folder / "a.tif")
    return folder / "a.tif"


def deep(folder: Path) -> Path:
    values = LABELS.astype(np.uint16)
    values[values == 255] = 65535
    Image.fromarray(values).save(folder / "a.png")
    return folder / "a.png"


def arrays(folder: Path) -> Path:
    np.savez(folder / "a.npz", label_map=np.where(LABELS > 2, 0, LABELS), class_names=["background", "b", "a"])
    return folder / "a.npz"


def named(folder: Path) -> Path:
    labels = [{"name": name} for name in ("background", "b", "a")]
    (folder / "a.json").write_text(json.dumps({"generator": "t2d-runtime 1.0", "labels": labels}))
    Image.fromarray(np.where(LABELS > 2, 0, LABELS).astype(np.uint8)).save(folder / "a.labels.png")
    return folder / "a.labels.png"


@pytest.mark.parametrize("make", [palette, grey, deep, arrays, named])
def test_label_files_of_every_kind(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    file = read_labels(make(tmp_path))
    truth, others = truth_of(file, ["a", "b"])
    by_name = file.names is not None
    assert truth.tolist() == ([[0, 2, 1], [1, 0, 2]] if by_name else [[0, 1, 2], [2, -1, 1]])
    assert not others
    assert label_name(file.path) == "a"


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda path: Image.new("RGB", (2, 2)).save(path, "PNG"), DataError, "a picture of colours"),
        (lambda path: Image.new("L", (2, 2)).save(path, "JPEG"), ImageError, "neither PNG nor TIFF"),
        (lambda path: path.write_bytes(b""), ImageError, "neither PNG nor TIFF"),
        (lambda path: Image.fromarray(np.full((2, 2), -1, np.int32)).save(path, "TIFF"), DataError, "values from -1"),
        (lambda path: None, DataError, "no such file"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, write: Callable[[Path], Any], error: type[T2DError], message: str
) -> None:
    write(tmp_path / "a.png")
    with pytest.raises(error, match=message):
        read_labels(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"label_map": np.zeros((2, 2), np.uint8)}, "expected the arrays label_map and class_names"),
        ({"label_map": np.zeros(2, np.uint8), "class_names": ["a"]}, r"label_map is uint8 \(2,\)"),
        ({"label_map": np.ones((2, 2), np.uint8), "class_names": ["a"]}, "labels from 1 to 1 and 1 names"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "a.npz")


def test_a_header_that_promises_more_than_the_file_holds_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", class_names=["a"])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**13, 2)})
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("label_map.npy", header.getvalue())
    with pytest.raises(DataError, match=r"cannot be read \(label_map.npy has 0 bytes, but its header says uint8"):
        read_labels(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_label_pictures_above_pillow_s_limit_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    labels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    Image.fromarray(labels).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(read_labels(tmp_path / name).labels, labels)
    monkeypatch.setenv("T2D_MAX_PIXELS", "99")
    with pytest.raises(ImageError, match="10 x 10 pixels, more than the limit of 99"):
        read_labels(tmp_path / name)


def test_pictures_and_scores_hold_no_labels() -> None:
    assert [label_name(Path(name)) for name in ("a.overlay.png", "a.scores.npz", ".a.png", "a.txt")] == [None] * 4
    assert label_name(Path("a.b.grey.PNG")) == "a.b"


def test_a_json_file_of_another_picture_is_told(tmp_path: Path) -> None:
    path = named(tmp_path)
    Image.fromarray(LABELS).save(path)
    with pytest.raises(DataError, match="holds the value 255, but the JSON file beside it names 3 labels"):
        read_labels(path)


def test_values_without_a_name_are_named() -> None:
    labels: NDArray[np.uint16] = np.array([[3, 4, 4]], np.uint16)
    with pytest.raises(DataError, match="a holds the values 3, 4, but the labels are 0 to 1: background, sky"):
        truth_of(LabelFile(Path("a"), labels, None), ["sky"])


signs = st.text(st.sampled_from("ab ;#@\\-,.|0:&'\"="), min_size=1, max_size=8)


@given(names=st.lists(signs, min_size=1, max_size=4), negatives=st.lists(signs, max_size=2), data=st.data())
def test_a_written_file_reads_back_whatever_the_words_hold(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], negatives: list[str], data: st.DataObject
) -> None:
    try:
        classes = checked_classes(names, negatives, {names[0]: data.draw(st.floats(0, 1))})
    except ClassNamesError:
        return
    folder = tmp_path_factory.mktemp("written")
    for suffix in (".txt", ".json"):
        try:
            write_class_file(folder / f"classes{suffix}", classes, ["a comment"])
        except ClassNamesError:
            if suffix == ".json":
                raise
            continue
        assert read_class_file(folder / f"classes{suffix}") == classes


@pytest.mark.parametrize(
    "phrases", [["a"], ["a; b", "c # d", "@0.5", "- e", "f\\g", "h, i"], ["R&amp;B"], ["St. Bernard"]]
)
def test_usual_and_odd_words_fit_into_text(tmp_path: Path, phrases: list[str]) -> None:
    classes = ClassList({phrases[0]: tuple(phrases)}, ("no",), {phrases[0]: 0.123456789})
    write_class_file(tmp_path / "classes.txt", classes)
    assert read_class_file(tmp_path / "classes.txt") == classes


def test_a_name_that_is_no_phrase_needs_json(tmp_path: Path) -> None:
    classes = checked_classes({"person": ["man", "woman"]})
    with pytest.raises(ClassNamesError, match=r"choose a name that ends in \.json"):
        write_class_file(tmp_path / "classes.txt", classes)
    write_class_file(tmp_path / "classes.json", classes)
    assert read_class_file(tmp_path / "classes.json") == classes
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not a result of t2d-runtime"):
        write_class_file(tmp_path / "mine.txt", checked_classes(["a"]))
