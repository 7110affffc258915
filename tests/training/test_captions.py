"""Captions files: both layouts, and one clear error for each thing that can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2d_runtime.errors import DataError
from training.__main__ import main
from training.features.captions import read_captions

IMAGES = [{"id": 7, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}, {"id": 5, "file_name": "unused.png"}]
ANNOTATIONS = [
    {"id": 10, "image_id": 3, "caption": "a boat"},
    {"id": 11, "image_id": 7, "caption": "the sea"},
    {"id": 12, "image_id": 3, "caption": "a boat, at sea"},
]


def write_coco(folder: Path, images=IMAGES, annotations=ANNOTATIONS) -> Path:
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    path = folder / "annotations" / "captions.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_coco(tmp_path):
    path = write_coco(tmp_path)
    for source in (path, tmp_path):
        found = read_captions(source)
        assert [(image.image_id, image.captions, image.caption_ids) for image in found.images] == [
            (7, ("the sea",), (11,)),
            (3, ("a boat", "a boat, at sea"), (10, 12)),
        ]
        assert found.images[0].path == tmp_path / "images" / "a.png"
        assert found.path == path
    assert read_captions(path, tmp_path).images[0].path == tmp_path / "a.png"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", 'image,caption\nb.png,"a boat, at sea"\na.png,été\nb.png,a boat\n'),
        (
            "captions.jsonl",
            '{"image": "b.png", "caption": "a boat, at sea"}\n{"image": "a.png", "caption": "été"}\n\n'
            '{"image": "b.png", "caption": "a boat"}\n',
        ),
    ],
)
def test_folder_with_pairs(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_captions(tmp_path).images
    assert [(image.image_id, image.path.name, image.captions, image.caption_ids) for image in found] == [
        (0, "b.png", ("a boat, at sea", "a boat"), (0, 2)),
        (1, "a.png", ("été",), (1,)),
    ]


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        (IMAGES, [{"id": 1, "image_id": 99, "caption": "x"}], "caption 1 is of image 99, which 'images' does not list"),
        ([*IMAGES, IMAGES[0]], ANNOTATIONS, r"images\[3\]: image id 7 is given twice"),
        (IMAGES, [*ANNOTATIONS, ANNOTATIONS[0]], r"annotations\[3\]: caption id 10 is given twice"),
        (IMAGES, [{"id": 1, "image_id": 7, "caption": " "}], "expected 'caption', text, got ' '"),
        (IMAGES, [{"id": 1, "image_id": 7}], "expected 'caption', text, got None"),
        ([{"id": "7", "file_name": "a.png"}], ANNOTATIONS, "expected 'id', an integer, got '7'"),
        ([7], ANNOTATIONS, r"images\[0\]: expected 'id'"),
        (IMAGES, [], "has no captions"),
        (IMAGES, "none", "the lists 'images' and 'annotations'"),
    ],
)
def test_bad_coco(tmp_path, images, annotations, message):
    write_coco(tmp_path, images, annotations)
    with pytest.raises(DataError, match=message):
        read_captions(tmp_path)


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match=r"expected an existing captions \.json, or a folder"):
        read_captions(tmp_path / "missing.json")
    with pytest.raises(DataError, match="got 0 of them"):
        read_captions(tmp_path)
    path = write_coco(tmp_path)
    (tmp_path / "captions.csv").write_text("image,caption\n")
    with pytest.raises(DataError, match="got 2 of them"):
        read_captions(tmp_path)
    with pytest.raises(DataError, match="is no folder: expected the images"):
        read_captions(path, tmp_path / "elsewhere")
    path.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_captions(path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_captions(path)


def test_bad_pairs(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"image": "a.png", "caption": "x"}\n{"image": "a.png"\n')
    with pytest.raises(DataError, match=r"captions.jsonl, line 2 is not JSON"):
        read_captions(tmp_path)
    (tmp_path / "captions.jsonl").unlink()
    (tmp_path / "captions.csv").write_text("file,caption\na.png,x\n")
    with pytest.raises(DataError, match=r"captions.csv, entry 1: expected 'image', text, got None"):
        read_captions(tmp_path)


def test_one_line_and_status_2(tmp_path, capsys):
    write_coco(tmp_path, annotations=[{"id": 1, "image_id": 99, "caption": "x"}])
    assert main(["features", "--captions", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("training: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
