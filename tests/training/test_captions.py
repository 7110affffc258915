"""Captions files: both layouts, and one clear error for each thing that can be wrong with them."""

from __future__ import annotations

import csv
import json
from itertools import islice
from pathlib import Path

import pytest

from t2d_runtime.errors import DataError
from tests.fuzz.captions import attempt, cases
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
        ([{"id": 2**63, "file_name": "a.png"}], ANNOTATIONS, "expected 'id', an integer, got 9223372036854775808"),
        ([{"id": 7, "file_name": "a\0.png"}], ANNOTATIONS, "which holds a NUL or half a character"),
        (IMAGES, [{"id": 1, "image_id": 7, "caption": "\ud800"}], "which holds a NUL or half a character"),
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
    with pytest.raises(DataError, match=r"expected an existing captions file \(\.json, \.csv, \.jsonl\), or a folder"):
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
    path.write_bytes(b'{"images":\n "\xe9"}')
    with pytest.raises(DataError, match=r"captions\.json, line 2: byte 0xe9 is not UTF-8 text; save the file as UTF-8"):
        read_captions(path)


def test_bad_pairs(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"image": "a.png", "caption": "x"}\n{"image": "a.png"\n')
    with pytest.raises(DataError, match=r"captions.jsonl, line 2 is not JSON"):
        read_captions(tmp_path)
    (tmp_path / "captions.jsonl").unlink()
    (tmp_path / "captions.csv").write_text("file,caption\na.png,x\n")
    with pytest.raises(DataError, match=r"line 1: expected the columns 'image' and 'caption', got 'file', 'caption'"):
        read_captions(tmp_path)


def captions_in(folder: Path, content: str | bytes, name: str = "captions.csv") -> list[tuple[str, tuple[str, ...]]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(image.path.name, image.captions) for image in read_captions(path).images]


@pytest.mark.parametrize(
    "content",
    [
        "image,caption\na.png,a boat\nb.png,the sun\n",
        "image,caption\r\na.png,a boat\r\n\r\nb.png,the sun\r\n",
        "image,caption\ra.png,a boat\rb.png,the sun",
        "\n\nimage,caption\n \n,\na.png,a boat\n,,,\nb.png,the sun",
        "\ufeffimage,caption\na.png,a boat\nb.png,the sun\n",
        "image;caption\na.png;a boat\nb.png;the sun\n",
        "sep=;\nimage;caption\na.png;a boat\nb.png;the sun\n",
        "image\tcaption\na.png\ta boat\nb.png\tthe sun\n",
        "image| caption\na.png| a boat\nb.png| the sun\n",
        "image\tcaption\r\na.png\ta boat\r\nb.png\tthe sun\r\n".encode("utf-16"),
        "\ufeffimage,caption\na.png,a boat\nb.png,the sun\n".encode("utf-16-be"),
        "image,caption\na.png,a boat\nb.png,the sun\n".encode("utf-32"),
        ' Image , "CAPTION"\na.png ,a boat\nb.png, the sun\n',
        "split,caption,image,\n1,a boat,a.png,\n2,the sun,b.png,\n",
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path, content):
    assert captions_in(tmp_path, content) == [("a.png", ("a boat",)), ("b.png", ("the sun",))]


@pytest.mark.parametrize(
    ("field", "caption"),
    [
        ('"a boat, at sea"', "a boat, at sea"),
        (' "a boat; at sea"', "a boat; at sea"),
        ("a boat; at sea", "a boat; at sea"),
        ('"a ""big"" boat"', 'a "big" boat'),
        ('a 12" board', 'a 12" board'),
        ('"a boat\nat sea, far out"', "a boat\nat sea, far out"),
        ("a\u2028boat", "a\u2028boat"),
        ("b" * 200_000, "b" * 200_000),
    ],
)
def test_captions_are_whole(tmp_path, field, caption):
    assert captions_in(tmp_path, f"image,caption\na.png,{field}\n") == [("a.png", (caption,))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "image,caption\na.png,x\n\nb.png,a boat, at sea\nc.png,a,b,c\n",
            r"captions\.csv, line 4: 3 columns, the first line names 2 \(image, caption\): 'b\.png,a boat,at sea' "
            r"\(2 such lines\); put a text that holds commas in double quotes",
        ),
        ("image;caption\na.png;x;y\n", r"line 2: 3 columns.*that holds semicolons in double quotes"),
        ("image,caption\na.png\n", r"line 2: 1 column, the first line names 2 \(image, caption\): 'a\.png'$"),
        ("image,caption\na.png,\n", r"line 2: expected 'caption', text, got ''"),
        ("image,caption\n ,x\n", r"line 2: expected 'image', text, got ''"),
        ("", r"is empty: expected a first line 'image,caption'"),
        (" \n\n", r"is empty"),
        ("image,caption\n", r"has no captions"),
        ("a.png,x\n", r"line 1: expected the columns 'image' and 'caption', got 'a\.png', 'x', separated by commas"),
        ("name;text\n", r"got 'name', 'text', separated by semicolons"),
        ("image,caption,Image\na.png,x,y\n", r"line 1: the column 'image' is there twice"),
        ('image,caption\na.png,"a boat\nb.png,the sun\n', r"line 2: the quotes do not match .*; close them"),
        ('image,caption\na.png,"a boat\nb.png,"the sun"\n', r"line 2: the quotes do not match"),
        ('image,caption\na.png,"a boat\nb.png,x"\n', r"line 2: the quote that opens there swallows .* 'b\.png'"),
        ('image,caption\na.png,"a boat" at sea\n', r"line 2: the quotes do not match"),
        (b"image,caption\na.png,\xe9t\xe9\n", r"line 2: byte 0xe9 is not UTF-8 text; save the file as UTF-8"),
        (b"image,caption\ra.png,x\rb.png,\xe9\r", r"line 3: byte 0xe9"),
        (b"\xff\xfei\x00\x00\xd8", r"line 1: byte 0x00 is not UTF-16 text"),
        (b"image,caption\na.png,x\nb.png,a\0b\n", r"line 3: a NUL character, expected text"),
        ("image,caption\na.png,x\n".encode("utf-16-le"), r"line 1: a NUL character"),
    ],
)
def test_bad_tables_name_the_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        captions_in(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"image": "a.png", "caption": "x"}\n["a.png", "x"]\n',
            r"line 2: expected an object with 'image' and 'caption'",
        ),
        ('\n{"image": "a.png"}\n', r"captions\.jsonl, line 2: expected 'caption', text, got None"),
        ('{"image": "a.png", "caption": 7}', r"line 1: expected 'caption', text, got 7"),
        ("[" * 100_000, r"line 1 is not JSON"),
        ('{"image": "a.png", "caption": "x"} {}', r"line 1 is not JSON"),
        ('{"image": "a.png", "caption": "\\udcff"}', r"line 1: 'caption' is '\\udcff', which holds"),
    ],
)
def test_bad_json_lines_name_the_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        captions_in(tmp_path, content, "captions.jsonl")


def test_json_lines_with_a_byte_order_mark(tmp_path):
    content = '\ufeff{"image": "a.png", "caption": "x"}\r\n\r\n{"image": "a.png", "caption": "y", "split": 1}'
    assert captions_in(tmp_path, content, "captions.jsonl") == [("a.png", ("x", "y"))]


def test_the_csv_modules_limit_is_as_before(tmp_path):
    before = csv.field_size_limit()
    captions_in(tmp_path, f"image,caption\na.png,{'b' * 200_000}\n")
    assert csv.field_size_limit() == before


def test_damaged_files_are_read_or_refused(tmp_path):
    outcomes = [attempt(tmp_path, *case) for case in islice(cases(0), 1000)]
    assert 50 < sum(outcomes) < 950


def test_one_line_and_status_2(tmp_path, capsys):
    write_coco(tmp_path, annotations=[{"id": 1, "image_id": 99, "caption": "x"}])
    assert main(["features", "--captions", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("training: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
