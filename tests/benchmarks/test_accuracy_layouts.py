"""The eight benchmarks on small copies of their folders, with figures worked out by hand.

Every copy has two images of 4 x 6 pixels. The first one's rows are all alike: `row` in the file, of which the stub
makes `result`. The second one shows the first label above the third, two rows each; the first is found, the third is
taken for the fifth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy import tables
from benchmarks.accuracy.dataset import DataSet, folder_data
from benchmarks.accuracy.evaluation import Evaluation, evaluate
from benchmarks.accuracy.labelling import Labelled, Labeller, Pixels
from benchmarks.accuracy.layouts import BENCHMARKS
from benchmarks.accuracy.records import RecordFile
from benchmarks.accuracy.truth import LabelRule, read_truth
from t2d_runtime.errors import ClassNamesError, DataError, ImageError, OptionError
from t2d_runtime.words.text import check_class_names

GREY = (60, 180)
"""Of the two images, far enough apart for JPEG."""


@dataclass(frozen=True)
class Copy:
    """One benchmark's files, by hand."""

    images: tuple[str, str]
    labels: tuple[str, str]
    row: tuple[int, ...]
    result: tuple[int, ...]
    first: int
    """The file's value of label 0."""
    miou: float
    accuracy: float
    palette: bool = False
    lists: tuple[tuple[str, str], ...] = ()
    """Other files: path and content."""


# The 24 pixels of the first image: 8 ignored at the left, where 5 is found, 4 right ones of label 0, 4 of label 0 taken
# for the last, 4 of the last found, 4 ignored. The second: 12 right ones of label 0, 12 of label 2 taken for 4.
# Label 0: 16 of 20 + 16 - 16 = 20. Last: 4 of 4 + 8 - 4 = 8. Labels 2 and 4: 0 of 12. Labels 5 and 7 do not count.
MIOU = (16 / 20 + 4 / 8 + 0 + 0) / 4
ACCURACY = 20 / 36

# With nothing ignored: 8 of label 0 taken for 5, 4 right, 4 taken for the last; 8 of the last are found. Label 0: 16 of
# 28 + 16 - 16 = 28. Last: 8 of 8 + 12 - 8 = 12. Label 5: 0 of 8. Labels 2 and 4: 0 of 12.
MIOU_OBJECT = (16 / 28 + 8 / 12 + 0 + 0 + 0) / 5
ACCURACY_OBJECT = 24 / 48


def voc(year: int, labels: str, split: str, **facts: object) -> Copy:
    root = f"VOCdevkit/VOC{year}"
    names = ("2007_000033", "2007_000042")
    return Copy(
        images=tuple(f"{root}/JPEGImages/{name}.jpg" for name in names),
        labels=tuple(f"{root}/{labels}/{name}.png" for name in names),
        miou=MIOU,
        accuracy=ACCURACY,
        palette=True,
        # Images and label maps of the training set lie in the same folders.
        lists=(
            (f"{root}/ImageSets/{split}/val.txt", "\n".join(names) + "\n"),
            (f"{root}/JPEGImages/2007_000032.jpg", "an image of the training set"),
        ),
        **facts,
    )


def coco(root: str, suffix: str, **facts: object) -> Copy:
    names = ("000000000139", "000000000285")
    raw = tuple((f"{root}/annotations/val2017/{name}.png", "a map before its conversion") for name in names)
    return Copy(
        images=tuple(f"{root}/images/val2017/{name}.jpg" for name in names),
        labels=tuple(f"{root}/annotations/val2017/{name}{suffix}.png" for name in names),
        lists=raw,
        **facts,
    )


def ade(root: str) -> Copy:
    names = ("ADE_val_00000001", "ADE_val_00000002")
    return Copy(
        images=tuple(f"{root}/images/validation/{name}.jpg" for name in names),
        labels=tuple(f"{root}/annotations/validation/{name}.png" for name in names),
        row=(0, 0, 1, 1, 150, 0),
        result=(5, 5, 0, 149, 149, 7),
        first=1,
        miou=MIOU,
        accuracy=ACCURACY,
    )


CITIES = ("frankfurt/frankfurt_000000_000294", "lindau/lindau_000000_000019")

COPIES = {
    "voc20": voc(
        2012, "SegmentationClass", "Segmentation", row=(0, 0, 1, 1, 20, 255), result=(5, 5, 0, 19, 19, 7), first=1
    ),
    "voc21": voc(
        2012, "SegmentationClass", "Segmentation", row=(255, 255, 0, 0, 20, 255), result=(5, 5, 0, 20, 20, 7), first=0
    ),
    "context59": voc(
        2010,
        "SegmentationClassContext",
        "SegmentationContext",
        row=(0, 0, 1, 1, 59, 0),
        result=(5, 5, 0, 58, 58, 7),
        first=1,
    ),
    "context60": voc(
        2010,
        "SegmentationClassContext",
        "SegmentationContext",
        row=(255, 255, 0, 0, 59, 255),
        result=(5, 5, 0, 59, 59, 7),
        first=0,
    ),
    "stuff": coco(
        "coco_stuff164k",
        "_labelTrainIds",
        row=(255, 255, 0, 0, 170, 255),
        result=(5, 5, 0, 170, 170, 7),
        first=0,
        miou=MIOU,
        accuracy=ACCURACY,
    ),
    "object": coco(
        "coco_object",
        "_instanceTrainIds",
        row=(0, 0, 0, 0, 80, 80),
        result=(5, 5, 0, 80, 80, 80),
        first=0,
        miou=MIOU_OBJECT,
        accuracy=ACCURACY_OBJECT,
    ),
    "cityscapes": Copy(
        images=tuple(f"cityscapes/leftImg8bit/val/{name}_leftImg8bit.png" for name in CITIES),
        labels=tuple(f"cityscapes/gtFine/val/{name}_gtFine_labelTrainIds.png" for name in CITIES),
        row=(255, 255, 0, 0, 18, 255),
        result=(5, 5, 0, 18, 18, 7),
        first=0,
        miou=MIOU,
        accuracy=ACCURACY,
    ),
    "ade20k": ade("ADEChallengeData2016"),
}


def write(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=95)


def write_copy(data: Path, copy: Copy) -> None:
    maps = np.empty((2, 4, 6), np.uint8)
    maps[0] = copy.row
    maps[1, :2], maps[1, 2:] = copy.first, copy.first + 2
    for grey, labels, image_path, label_path in zip(GREY, maps, copy.images, copy.labels, strict=True):
        write(data / image_path, Image.new("RGB", (6, 4), (grey, grey, grey)))
        picture = Image.fromarray(labels)
        if copy.palette:  # other colours than indices, as in VOC: only the indices mean something
            picture.putpalette([value for index in range(256) for value in (255 - index, index // 2, 128)])
        write(data / label_path, picture)
    for path, content in copy.lists:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_text(content)


@dataclass(frozen=True)
class Stub:
    """Finds what is laid down for the two images, which it tells apart by their grey."""

    result: tuple[int, ...]

    def open(self) -> Labeller:
        maps = np.empty((2, 4, 6), np.uint8)
        maps[0] = self.result
        maps[1, :2], maps[1, 2:] = 0, 4

        def label(image: Pixels) -> Labelled:
            return Labelled(maps[int(image.mean() > 120)])

        return label


def evaluate_stub(data: DataSet, result: tuple[int, ...], folder: Path) -> Evaluation:
    file, done = RecordFile.open(folder / "images.jsonl", {}, resume=False)
    return evaluate(data, Stub(result), file, done, processes=1, skip_bad=False)


@pytest.mark.parametrize("name", COPIES)
def test_figures_by_hand(name: str, tmp_path: Path) -> None:
    copy = COPIES[name]
    write_copy(tmp_path / "data", copy)
    data = BENCHMARKS[name].open(name, tmp_path / "data")
    assert [sample.image for sample in data.samples] == [tmp_path / "data" / path for path in copy.images]
    figures = tables.figures(evaluate_stub(data, copy.result, tmp_path), data.label_names)
    assert figures["images"] == 2
    assert figures["miou"] == pytest.approx(copy.miou, abs=1e-12)
    assert figures["pixel_accuracy"] == pytest.approx(copy.accuracy, abs=1e-12)
    last = data.label_names[-1]
    assert figures["per_class"][-1]["name"] == last
    assert figures["per_class"][1]["iou"] is None
    wrong = {(pair["truth"], pair["result"]): pair["pixels"] for pair in figures["confused"]}
    assert wrong[data.label_names[2], data.label_names[4]] == 12
    assert wrong[data.label_names[0], last] == 4
    assert f"mIoU {100 * copy.miou:.2f}" in tables.table(figures).splitlines()[-1]


@pytest.mark.parametrize(("name", "root"), [("ade20k", "ade/ADEChallengeData2016"), ("object", "coco_stuff164k")])
def test_other_customary_folders(name: str, root: str, tmp_path: Path) -> None:
    facts = COPIES["object"]
    copy = ade(root)
    if name == "object":
        copy = coco(
            root,
            "_instanceTrainIds",
            row=facts.row,
            result=facts.result,
            first=0,
            miou=facts.miou,
            accuracy=facts.accuracy,
        )
    write_copy(tmp_path, copy)
    assert [sample.labels for sample in BENCHMARKS[name].open(name, tmp_path).samples] == [
        tmp_path / path for path in copy.labels
    ]


def test_protocols_are_the_published_ones(tmp_path: Path) -> None:
    for name, copy in COPIES.items():
        write_copy(tmp_path, copy)
        data = BENCHMARKS[name].open(name, tmp_path)
        assert check_class_names(data.class_names) == data.class_names
        assert data.background == (data.label_names[0] == "background")
        assert len(data.rule.values) == len(data.label_names)
    opened = {name: BENCHMARKS[name].open(name, tmp_path) for name in BENCHMARKS}
    assert {name: len(data.class_names) for name, data in opened.items()} == {
        "voc20": 20,
        "context59": 59,
        "stuff": 171,
        "cityscapes": 19,
        "ade20k": 150,
        "voc21": 20,
        "context60": 59,
        "object": 80,
    }
    assert [name for name, data in opened.items() if data.background] == ["voc21", "context60", "object"]
    assert [name for name, data in opened.items() if data.cleaning] == ["voc21", "object"]
    assert "diningtable" in opened["voc20"].class_names
    assert "bed " in opened["ade20k"].class_names, "the published names, as they are"


@pytest.mark.parametrize("name", COPIES)
def test_missing_data_set_says_what_goes_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        BENCHMARKS[name].open(name, tmp_path)
    root = Path(COPIES[name].images[0]).parts[0]
    assert "was looked for; download" in str(error.value)
    assert "from http" in str(error.value)
    assert f"it goes to {tmp_path / root}" in str(error.value)


def test_label_maps_that_were_never_made_are_named(tmp_path: Path) -> None:
    copy = COPIES["cityscapes"]
    write_copy(tmp_path, copy)
    (tmp_path / copy.labels[1]).unlink()
    with pytest.raises(DataError, match=r"1 of 4 files are missing: .*lindau.*csCreateTrainIdLabelImgs"):
        BENCHMARKS["cityscapes"].open("cityscapes", tmp_path)
    assert len(BENCHMARKS["cityscapes"].open("cityscapes", tmp_path, limit=1).samples) == 1


def test_coco_object_ignores_nothing(tmp_path: Path) -> None:
    copy = COPIES["object"]
    write_copy(tmp_path, copy)
    write(tmp_path / copy.labels[0], Image.new("L", (6, 4), 255))
    data = BENCHMARKS["object"].open("object", tmp_path)
    with pytest.raises(DataError, match=r"_instanceTrainIds.png holds the values \[255\]; expected 0 to 80;"):
        evaluate_stub(data, copy.result, tmp_path / "out")


def test_values_are_read_from_every_kind_of_label_map(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    rule = LabelRule(values=(7, 3, 1000), ignored=(0,))
    Image.fromarray(np.array([[7, 1000, 0]], np.uint16)).save(path)
    assert read_truth(path, rule, (1, 3)).tolist() == [[0, 2, -1]]
    Image.fromarray(np.array([[7, 3, 0]], np.uint8)).save(path)
    assert read_truth(path, rule, (1, 3)).tolist() == [[0, 1, -1]]
    with pytest.raises(DataError, match=r"3 x 1 pixels, its image 4 x 1"):
        read_truth(path, rule, (1, 4))
    Image.fromarray(np.array([[8, 3, 5]], np.uint8)).save(path)
    with pytest.raises(DataError, match=r"the values \[5, 8\]; expected 3, 7, 1000, or 0 \(ignored\)"):
        read_truth(path, rule, (1, 3))
    Image.new("RGB", (3, 1)).save(path)
    with pytest.raises(DataError, match="mode RGB; expected palette indices"):
        read_truth(path, rule, (1, 3))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImageError, match=r"map\.png"):
        read_truth(path, rule, (1, 3))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Images, label maps and a class file."""
    for name in ("b", "a"):
        write(tmp_path / "images" / f"{name}.jpg", Image.new("RGB", (6, 4)))
        write(tmp_path / "labels" / f"{name}.png", Image.new("L", (6, 4)))
    classes = tmp_path / "classes.txt"
    classes.write_text("cat\n\ngreen grass\n")
    return tmp_path / "images", tmp_path / "labels", classes


def test_any_folder(folders: tuple[Path, Path, Path]) -> None:
    data = folder_data(*folders, ignored=[255], background_label=None)
    assert [sample.name for sample in data.samples] == ["a", "b"]
    assert data.label_names == data.class_names == ("cat", "green grass")
    assert data.rule == LabelRule((0, 1), (255,))
    assert not data.background
    assert not data.cleaning
    with_background = folder_data(*folders, ignored=[1], background_label=0, limit=1)
    assert len(with_background.samples) == 1
    assert with_background.label_names == ("background", "cat", "green grass")
    assert with_background.rule == LabelRule((0, 2, 3), (1,))
    assert with_background.background
    assert with_background.cleaning


def test_folders_that_do_not_match(folders: tuple[Path, Path, Path]) -> None:
    images, labels, classes = folders
    with pytest.raises(OptionError, match="expected different values"):
        folder_data(*folders, ignored=[255, 0], background_label=0)
    for content, message in (('{"cat": 0}', "classes.json"), ('{"cat": ["cat", "kitten"]}', "more than names")):
        classes.with_suffix(".json").write_text(content)
        with pytest.raises(ClassNamesError, match=message):
            folder_data(images, labels, classes.with_suffix(".json"), ignored=[], background_label=None)
    (labels / "a.png").rename(labels / "c.png")
    with pytest.raises(DataError, match=r"2 images.*2 PNG files.*without the other: \['a', 'c'\]"):
        folder_data(*folders, ignored=[255], background_label=None)
    write(images / "a.png", Image.new("RGB", (6, 4)))
    with pytest.raises(DataError, match="have one name"):
        folder_data(*folders, ignored=[255], background_label=None)
    with pytest.raises(DataError, match="is not a folder"):
        folder_data(images / "none", labels, classes, ignored=[255], background_label=None)
