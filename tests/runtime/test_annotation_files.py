"""Files of annotations and tables: how they are written. tests/formats reads them with the tools that they are for."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2d_runtime import Segmentation
from t2d_runtime.cli import main
from t2d_runtime.commands.inputs import InputImage
from t2d_runtime.commands.output_names import names_in_run
from t2d_runtime.errors import MissingPackageError
from t2d_runtime.image.georeference import PIXEL_SCALE, TIE_POINTS, georeference_of
from t2d_runtime.results.formats import ImageResult, coco
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.results.outputs import ResultWriter, formats_of
from t2d_runtime.storage.own_files import is_own

SETTINGS = SegmentationSettings(True, None, 0.5, 1.0, None, "slide", "none", "fp32")
NEW = "coco,labelme,geojson,csv"


def result_of(labels: Any) -> Segmentation:
    label_map = np.array(labels, np.uint8)
    image = np.zeros((*label_map.shape, 3), np.uint8)
    return Segmentation(image, label_map, ("background", "cat", "dog"), None, SETTINGS)


def test_every_file_says_that_this_program_wrote_it(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, formats_of(NEW)) as writer:
        writer.write(ImageResult(result_of([[0, 1], [2, 1]]), "a.png"), PurePath("a"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.geojson",
        "a.labelme.json",
        "coco.json",
        "labels.csv",
    ]
    assert {path.name for path in tmp_path.iterdir() if not is_own(path)} == {"labels.csv"}
    for name in ("a.geojson", "a.labelme.json", "coco.json"):
        assert next(iter(json.loads((tmp_path / name).read_text()))) == "generator"


def test_coco_s_images_may_wait_in_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "IN_MEMORY", 10)
    with ResultWriter(tmp_path, formats_of("coco")) as writer:
        for number in range(50):
            labels = [[0, 1], [2, 1]] if number % 2 else [[0, 0], [0, 2]]
            writer.write(ImageResult(result_of(labels), f"{number}.png"), PurePath(f"{number}"))
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."]  # under its name only when it is whole
    content = json.loads((tmp_path / "coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"{number}.png" for number in range(50)]
    assert [one["id"] for one in content["annotations"]] == list(range(1, 76))
    assert [one["id"] for one in content["categories"]] == [1, 2]
    assert {one["category_id"] for one in content["annotations"] if one["image_id"] == 1} == {2}


def test_an_interrupt_leaves_no_file_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "IN_MEMORY", 10)
    made: list[coco.CocoWriter] = []
    noted = replace(coco.FORMAT, begin=lambda *given: made.append(coco.CocoWriter(*given)) or made[0])

    def run() -> None:
        with ResultWriter(tmp_path, [noted, *formats_of("csv")]) as writer:
            writer.write(ImageResult(result_of([[1]]), "a.png"), PurePath("a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(tmp_path.iterdir()) == []
    assert made[0]._images.closed


def test_labels_without_pixels_have_no_row_and_no_annotation(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, formats_of("coco,csv")) as writer:
        writer.write(ImageResult(result_of([[0, 2]]), "a.png"), PurePath("a"))
        writer.write(ImageResult(result_of([[0, 0]]), "b.png"), PurePath("b"))
    rows = (tmp_path / "labels.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:3] for row in rows] == [
        ["a.png", "0", "background"],
        ["a.png", "2", "dog"],
        ["b.png", "0", "background"],
    ]
    content = json.loads((tmp_path / "coco.json").read_text())
    assert [one["name"] for one in content["categories"]] == ["cat", "dog"]
    assert [(one["image_id"], one["category_id"]) for one in content["annotations"]] == [(1, 2)]


def test_a_missing_package_is_told_before_any_work(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def blocked(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pycocotools":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(MissingPackageError, match="pycocotools is not installed"):
        ResultWriter(tmp_path, formats_of("csv,coco"))
    command = ["segment", str(exported_bundle), "no.png", "--classes", "sky", "--output", str(tmp_path)]
    assert main([*command, "--format", "coco"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("pip install '.[shapes]'")


def test_confidence_needs_a_format_that_holds_it(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(exported_bundle), "no.png", "--classes", "sky", "--output", str(tmp_path)]
    assert main([*command, "--format", "overlay,png", "--confidence"]) == 2
    error = capsys.readouterr().err
    assert "--confidence has no effect without --format npz, json, coco, labelme, geojson, csv" in error


def test_the_command_names_the_files_of_the_run_and_replaces_all_but_tables(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(tmp_path / "a.png")
    command = ["segment", str(exported_bundle), str(tmp_path / "a.png"), "--classes", "sky,sea"]
    command += ["--backend", "onnxruntime", "--output", str(tmp_path / "out"), "--format", "coco,csv"]
    for more in ([], ["--overwrite"]):
        assert main([*command, *more]) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert lines[-2:] == [str(tmp_path / "out" / name) for name in ("coco.json", "labels.csv")]
    table = tmp_path / "out" / "labels.csv"
    corrected = table.read_text().replace("sky", "clouds")
    table.write_text(corrected)
    assert main(command) == 2
    assert table.read_text() == corrected
    assert (
        "labels.csv exists and may hold your own changes, as a table has no mark; choose another --output"
        in capsys.readouterr().err
    )
    assert main([*command[:-1], "coco"]) == 0


def test_images_of_one_name_are_told_apart_by_their_folders() -> None:
    images = [
        InputImage(Path("/data/a/x/IMG.jpg")),
        InputImage(Path("/data/b/x/IMG.jpg")),
        InputImage(Path("/data/c/IMG.png")),
        InputImage(Path("/data/d/beach/IMG.webp"), PurePath("beach")),
        InputImage(None),
    ]
    assert names_in_run(images) == ["a/x/IMG.jpg", "b/x/IMG.jpg", "IMG.png", "beach/IMG.webp", "stdin"]


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {PIXEL_SCALE: (1.0, 1.0, 0.0)},
        {PIXEL_SCALE: (0.0, 1.0, 0.0), TIE_POINTS: (0.0, 0.0, 0.0, 5.0, 5.0, 0.0)},
        {PIXEL_SCALE: (1.0, 1.0, 0.0), TIE_POINTS: (0.0, 0.0, 0.0, float("nan"), 5.0, 0.0)},
    ],
)
def test_a_tiff_without_a_transform_has_no_place_in_the_world(tmp_path: Path, tags: dict[int, Any]) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.tif", tiffinfo=tags)
    assert georeference_of(tmp_path / "a.tif", (4, 5)) is None


def test_other_pictures_and_damaged_ones_have_none(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    assert georeference_of(tmp_path / "a.png", (4, 5)) is None
    for content in (b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x05", b"", b"x"):
        assert georeference_of(content, (4, 5)) is None
    tags = {PIXEL_SCALE: (2.0, 3.0, 0.0), TIE_POINTS: (1.0, 1.0, 0.0, 10.0, 20.0, 0.0)}
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.tif", tiffinfo=tags)
    found = georeference_of(tmp_path / "a.tif", (4, 5))
    assert found is not None
    assert found.transform == (2, 0, 8, 0, -3, 23)
    assert (found.epsg, found.mirrors) == (None, True)
