"""`t2d compare`: agreement, IoU and areas of two label maps, or of folders of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime.cli import main
from t2d_runtime.errors import DataError
from t2d_runtime.evaluation.comparison import DIFFERENT, compare, difference_picture, together
from t2d_runtime.evaluation.label_files import LabelFile

NAMES = ("background", "sky", "sea")


def label_file(labels: NDArray[np.integer], names: tuple[str, ...] | None = NAMES) -> LabelFile:
    return LabelFile(Path("a"), labels.astype(np.uint16), names)


@pytest.fixture
def labels() -> NDArray[np.uint16]:
    labels = np.zeros((30, 50), np.uint16)
    labels[:10], labels[20:] = 1, 2
    return labels


def changed(labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Two areas differ: 12 pixels of sky are background, 4 of the sea sky."""
    other = labels.copy()
    other[2:5, 30:34] = 0
    other[28:, 48:] = 1
    return other


def test_figures_of_labels_and_the_areas_that_differ(labels: NDArray[np.uint16]) -> None:
    found = compare(label_file(labels), label_file(changed(labels)), "x")
    assert (found.pixels, found.different) == (1500, 16)
    assert found.agreement == pytest.approx(1484 / 1500)
    figures = {label.name: label for label in found.figures}
    assert list(figures) == ["background", "sky", "sea"]
    assert figures["background"].iou == pytest.approx(500 / 512)
    assert figures["sky"].iou == pytest.approx(488 / 504)
    assert figures["sea"].pixels == (500, 496)
    assert found.mean_iou == pytest.approx((500 / 512 + 488 / 504 + 496 / 500) / 3)
    first, second = found.areas
    assert (first.file, first.box, first.pixels, first.first, first.second) == (
        "x",
        (30, 2, 34, 5),
        12,
        "sky",
        "background",
    )
    assert (second.box, second.pixels, second.first, second.second) == ((48, 28, 50, 30), 4, "sea", "sky")


def test_labels_are_equal_by_name_where_files_have_names_and_else_by_value(labels: NDArray[np.uint16]) -> None:
    turned = np.array([2, 0, 1])[labels]
    assert compare(label_file(labels), label_file(turned, ("sky", "sea", "background"))).agreement == 1
    assert not compare(label_file(labels), label_file(turned, ("sky", "sea", "background"))).areas
    assert compare(label_file(labels), label_file(turned, None)).agreement == 0
    nameless = compare(label_file(labels, None), label_file(labels, None))
    assert [label.name for label in nameless.figures] == ["0", "1", "2"]
    beyond = np.where(labels == 2, 255, labels)
    assert [label.name for label in compare(label_file(beyond, None), label_file(labels)).figures] == [
        *NAMES[:2],
        "255",
        "sea",
    ]


def test_maps_together_count_every_pixel(labels: NDArray[np.uint16]) -> None:
    same, other = label_file(labels), label_file(changed(labels))
    total = together([compare(same, same), compare(same, other, "b"), compare(other, other)])
    assert (total.pixels, total.different) == (4500, 16)
    assert [area.file for area in total.areas] == ["b", "b"]
    with pytest.raises(DataError, match="no label maps to compare"):
        together([])
    with pytest.raises(DataError, match="a has 50 x 30 pixels and a 30 x 50; expected maps of the same size"):
        compare(same, label_file(labels.T))


def test_a_picture_shows_where_they_differ(labels: NDArray[np.uint16]) -> None:
    one, other = label_file(labels), label_file(changed(labels))
    picture = difference_picture(one, other)
    different = (picture == DIFFERENT).all(axis=2)
    np.testing.assert_array_equal(different, labels != changed(labels))
    assert picture[~different].min() > 120


@pytest.fixture
def folders(tmp_path: Path, labels: NDArray[np.uint16]) -> Path:
    """Two folders with a pair that is equal, one that differs, and a map alone on each side."""
    for name, content in (("a/x", labels), ("a/y", labels), ("b/x", labels), ("b/y", changed(labels))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez(tmp_path / f"{name}.npz", label_map=content, class_names=NAMES)
    return tmp_path


def test_two_files(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same, other = str(folders / "a/y.npz"), str(folders / "b/y.npz")
    assert main(["compare", same, same]) == 0
    assert capsys.readouterr().out.startswith("agreement 1.000000: 0 of 1500 pixels differ\n")
    picture = folders / "diff.png"
    assert main(["compare", same, other, "--output", str(picture)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "agreement 0.989333: 16 of 1500 pixels differ"
    assert lines[3].split() == ["sky", "0.9683", "500", "492"]
    assert lines[-3] == "12 pixels differ in columns 30 to 33, rows 2 to 4: sky in A, background in B"
    assert lines[-1] == f"    {picture}"
    with Image.open(picture) as drawn:
        assert drawn.size == (50, 30)
    assert main(["compare", same, other, "--min-agreement", "0.98", "--output", str(picture)]) == 0


def test_two_folders_as_json(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", str(folders / "a"), str(folders / "b"), "--json", "--min-agreement", "0.99"]
    assert main([*command, "--output", str(folders / "diff")]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["pixels"] == 3000
    assert content["files"]["x"]["agreement"] == 1
    assert content["areas"][0]["file"] == "y"
    assert content["only_in"] == {"A": [], "B": []}
    assert sorted(path.name for path in (folders / "diff").iterdir()) == ["x.diff.png", "y.diff.png"]


def test_files_without_a_partner_or_of_another_size_are_told_and_the_others_compared(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", str(folders / "a"), str(folders / "b"), "--min-agreement", "0.9"]
    Image.new("L", (9, 9)).save(folders / "a" / "alone.png")
    assert main(command) == 1
    assert f"only in {folders / 'a'}: alone" in capsys.readouterr().err
    Image.new("L", (8, 9)).save(folders / "b" / "alone.png")
    assert main(command) == 1
    streams = capsys.readouterr()
    assert "alone failed: " in streams.err
    assert "2 pairs of label maps" in streams.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b/x.npz"], "one of A and B is a folder"),
        (["a/x.npz", "nowhere.png"], "nowhere.png: no such file"),
        (["a", "empty"], "have no label maps of the same name (2 and 0 label maps)"),
        (["a/x.npz", "text.png"], "text.png is neither PNG nor TIFF"),
        (["a/x.npz", "small.png"], "expected maps of the same size"),
        (["a/x.npz", "b/x.npz", "--min-agreement", "2"], "--min-agreement is 2.0, expected a number from 0 to 1"),
        (["a/x.npz", "b/x.npz", "--overwrite"], "--overwrite has no effect without --output"),
        (["a/x.npz", "b/x.npz", "--output", "b/x.npz"], "is an input of this run"),
        (["a/x.npz", "b/x.npz", "--output", "text.png"], "is not a result of t2d-runtime"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    folders: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folders)
    Path("empty").mkdir()
    Path("text.png").write_text("text")
    Image.new("L", (3, 3)).save("small.png")
    assert main(["compare", *arguments]) == 2
    complaint = capsys.readouterr().err.strip()
    assert message in complaint
    assert "\n" not in complaint
    assert Path("text.png").read_text() == "text"


@pytest.mark.parametrize("name", ["b/x.npz", "b/x.png"])
def test_a_label_file_without_permission_is_told_as_such(
    folders: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folders)
    Path(name).touch()
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == Path(name):
            raise PermissionError(13, "Permission denied", name)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert main(["compare", "a/x.npz", name]) == 2
    assert capsys.readouterr().err.startswith(
        f"t2d: error: cannot read {name}: no permission; give this user the right"
    )


def test_a_folder_within_that_cannot_be_listed_is_an_error(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folders)
    Path("b/closed").mkdir()
    listed = os.scandir

    def scandir(folder: Any) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert main(["compare", "a", "b"]) == 2
    assert capsys.readouterr().err.startswith("t2d: error: cannot list b/closed: no permission")


def test_names_that_no_file_system_takes_are_missing_files(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(folders / "a" / "x.npz"), "a" * 300]) == 2
    assert "no such file; expected a label map" in capsys.readouterr().err
