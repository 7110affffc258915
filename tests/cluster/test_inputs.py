"""The pictures that a command line names, on this machine and in a store."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from t2d_runtime.cluster.images import Files, RowGroup, pictures_of
from t2d_runtime.cluster.inputs import Found, find_inputs
from t2d_runtime.cluster.places import place_of, shown_path
from t2d_runtime.errors import ImageError, ImageNotFoundError, OptionError
from t2d_runtime.results.formats.own_png import save_png

NAMES = ("a.jpg", "b.PNG", "c.txt", ".hidden.jpg", "sub/d.jpeg", "sub/deep/e.webp", "sub/.secret/f.jpg", "[g].png")


def paths_shown(files: Sequence[Found]) -> list[str]:
    """The files' names in the dataset."""
    return [shown_path(root, path) for root, path in files]


@pytest.fixture
def store() -> str:
    """The address of an empty folder in a store, which is fsspec's memory."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: str) -> str:
    """The same files on this machine and in a store."""
    return str(tmp_path) if request.param == "local" else store


@pytest.fixture
def put(folder: str) -> Callable[[str, bytes], None]:
    def write(name: str, content: bytes = b"x") -> None:
        if "://" in folder:
            fsspec.filesystem("memory").pipe_file(f"{folder}/{name}", content)
        else:
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return write


def names_of(folder: str, *arguments: str, **options: Any) -> list[str]:
    found = find_inputs([f"{folder}/{argument}" if argument else folder for argument in arguments], **options)
    return [path.removeprefix(f"{folder}/") for path in paths_shown(found.files)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["[g].png", "a.jpg", "b.PNG"]),
        ("*.jpg", ["a.jpg"]),
        ("?.*", ["a.jpg", "b.PNG"]),
        ("[ab].*", ["a.jpg", "b.PNG"]),
        ("[!a].*", ["b.PNG"]),
        ("*/*", ["sub/d.jpeg"]),
        ("**/*.webp", ["sub/deep/e.webp"]),
        ("**", ["[g].png", "a.jpg", "b.PNG", "sub/d.jpeg", "sub/deep/e.webp"]),
        ("s*/**/*", ["sub/d.jpeg", "sub/deep/e.webp"]),
        ("[g].png", ["[g].png"]),
    ],
)
def test_folders_and_patterns(folder: str, put: Callable[[str], None], pattern: str, expected: list[str]) -> None:
    for name in NAMES:
        put(name)
    assert names_of(folder, pattern) == expected


def test_what_is_left_out_is_counted(folder: str, put: Callable[[str], None]) -> None:
    for name in NAMES:
        put(name)
    found = find_inputs([folder, f"{folder}/a.jpg"])
    assert found.left_out_line() == (
        "left out: given twice (1), hidden files (1), other files than images (1), "
        "subfolders, which --recursive enters (1)"
    )
    assert names_of(folder, "", recursive=True) == ["[g].png", "a.jpg", "b.PNG", "sub/d.jpeg", "sub/deep/e.webp"]


def test_results_of_earlier_runs_are_no_inputs(folder: str, put: Callable[..., None]) -> None:
    picture, own = Image.new("RGB", (3, 2)), BytesIO()
    save_png(picture, own)
    for name in ("b.overlay.png", "b.labels.png", "b.grey.png", ".b.grey.png"):
        put(name, own.getvalue())
    put("a.jpg")
    put("c.labels.png")  # the name of a result, of another program
    assert names_of(folder, "") == ["a.jpg", "c.labels.png"]
    assert names_of(folder, "*") == ["a.jpg", "c.labels.png"]
    assert names_of(folder, "b.grey.png") == ["b.grey.png"]  # by its own name
    for given in (folder, f"{folder}/*"):
        assert find_inputs([given]).left_out["results of earlier runs"] == 3
    with pytest.raises(OptionError, match=r"matches .*/b\.\*; left out: results of earlier runs \(3\)"):
        find_inputs([f"{folder}/b.*"])


def test_a_list_names_files_below_its_folder(folder: str, put: Callable[..., None], tmp_path: Path) -> None:
    put("lists/all.txt", f"a.jpg\n./b b.jpg\n\n  {tmp_path}/other.jpg\n{folder}/c.jpg\nshard.tar\n".encode())
    found = find_inputs([f"{folder}/lists/all.txt"])
    shown = list(paths_shown(found.files))
    assert shown[:2] == [f"{folder}/lists/a.jpg", f"{folder}/lists/b b.jpg"]
    assert shown[3] == f"{folder}/c.jpg"
    assert [str(shard.place) for shard in found.shards] == [f"{folder}/lists/shard.tar"]


def test_parquet_files_of_paths_and_of_pictures(folder: str, put: Callable[..., None]) -> None:
    put("paths.parquet", parquet_of({"path": ["x.jpg", "/y.jpg"], "label": [1, 2]}))
    put("images.parquet", parquet_of({"image": [b"one", b"two", b"three"]}, row_group_size=2))
    put("odd.parquet", parquet_of({"photo": [{"bytes": b"four", "path": "p"}], "path": ["unused"]}))
    found = find_inputs([folder])
    assert [path.rpartition("/")[2] for path in paths_shown(found.files)] == ["unused", "x.jpg", "y.jpg"]
    images = find_inputs([f"{folder}/images.parquet"]).row_groups
    assert [(group.number, group.first_row, group.count, group.column) for group in images] == [
        (0, 0, 2, "image"),
        (1, 2, 1, "image"),
    ]
    assert [(picture.path, picture.content) for picture in pictures_of(images[1])] == [
        (f"{folder}/images.parquet#2", b"three")
    ]
    rest = replace(images[0], skipped=frozenset({0}))
    assert [picture.content for picture in pictures_of(rest)] == [b"two"]
    (group,) = find_inputs([f"{folder}/odd.parquet"], column="photo").row_groups
    assert [picture.content for picture in pictures_of(group)] == [b"four"]


def parquet_of(columns: dict[str, list[Any]], **options: Any) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, **options)
    return sink.getvalue().to_pybytes()


def tar_of(members: dict[str, bytes], tmp_path: Path) -> bytes:
    path = tmp_path / f"{uuid.uuid4().hex}.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            file = tmp_path / "member"
            file.write_bytes(content)
            tar.add(file, name)
    content = path.read_bytes()
    path.unlink()
    return content


def test_members_of_a_shard(folder: str, put: Callable[..., None], tmp_path: Path) -> None:
    members = {"1.jpg": b"one", "1.json": b"{}", "1.mask.png": b"mask", "sub.dir/2.JPG": b"two", "3.txt": b""}
    put("s/a.tar", tar_of(members, tmp_path))
    (shard,) = find_inputs([f"{folder}/s"]).shards
    place = f"{folder}/s/a.tar"
    assert [(picture.path, picture.content) for picture in pictures_of(shard)] == [
        (f"{place}#1.jpg", b"one"),
        (f"{place}#1.mask.png", b"mask"),
        (f"{place}#sub.dir/2.JPG", b"two"),
    ]
    rest = replace(shard, skipped=frozenset({f"{place}#1.jpg", f"{place}#1.mask.png"}))
    assert [picture.content for picture in pictures_of(rest)] == [b"two"]
    (shard,) = find_inputs([place], column="mask.png").shards
    assert [picture.content for picture in pictures_of(shard)] == [b"mask"]


def test_damaged_shards_and_missing_files_are_pictures_with_a_reason(
    folder: str, put: Callable[..., None], tmp_path: Path
) -> None:
    content = tar_of({"1.jpg": b"one", "2.jpg": b"x" * 5000}, tmp_path)
    put("cut.tar", content[:3000])
    (shard,) = find_inputs([f"{folder}/cut.tar"]).shards
    first, *rest = pictures_of(shard)
    assert first.content == b"one"
    assert [type(picture.content) for picture in rest] == [ImageError]
    assert rest[-1].path == f"{folder}/cut.tar"
    assert "cannot be read as a tar file" in str(rest[-1].content)
    place = place_of(f"{folder}/none.jpg")
    (picture,) = pictures_of(Files(place.root, (place.path,)))
    assert isinstance(picture.content, ImageNotFoundError)
    assert str(picture.content) == f"{folder}/none.jpg: no such image file"
    gone = RowGroup(place_of(f"{folder}/gone.parquet"), 0, "image", 5, 3, frozenset({6}))
    assert [picture.path for picture in pictures_of(gone)] == [f"{folder}/gone.parquet#{row}" for row in (5, 7)]


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        (["none"], {}, ImageNotFoundError, "none: no such file or folder"),
        ([""], {}, OptionError, "an input's name is empty; expected a folder, a pattern, a list"),
        (["empty"], {}, OptionError, "empty holds no picture, .tar or .parquet; it is empty"),
        (["x*.jpg"], {}, OptionError, "no picture, .tar or .parquet matches "),
        (["none/*.jpg"], {}, ImageNotFoundError, "there is no folder "),
        (["a.pdf"], {}, OptionError, "a.pdf: files of this kind are not read; expected a picture, .tar, .parquet"),
        (["blank.txt"], {}, OptionError, "blank.txt names no picture; expected one path a line"),
        (["latin.txt"], {}, ImageError, "expected a UTF-8 text with one path a line"),
        (["a.jpg"], {"column": "x"}, OptionError, "--column has no effect without a Parquet file or a WebDataset"),
        (["t.parquet"], {}, OptionError, "has none of the columns image, bytes, content, path; name with --column one"),
        (["t.parquet"], {"column": "no"}, OptionError, "has no column 'no'; name with --column one of number"),
        (["t.parquet"], {"column": "number"}, OptionError, "the column number is int64, expected paths (string)"),
        (["bad.parquet"], {}, ImageError, "bad.parquet cannot be read as Parquet: "),
        (["nope://x/y"], {}, OptionError, "Expected a path, or an address that pyarrow or fsspec reads"),
    ],
)
def test_wrong_inputs_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name, content in {
        "a.jpg": b"x",
        "a.pdf": b"x",
        "blank.txt": b"\n \n",
        "latin.txt": b"\xe4.jpg",
        "t.parquet": parquet_of({"number": [1]}),
        "bad.parquet": b"PAR1",
    }.items():
        Path(name).write_bytes(content)
    with pytest.raises(kind) as told:
        find_inputs(arguments, **options)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "shown", "path"),
    [
        ("s3://key:secret@bucket/a b/c.jpg?region=eu-central-1", "s3://bucket/a b/c.jpg", "bucket/a b/c.jpg"),
        ("gs://bucket/x.jpg", "gs://bucket/x.jpg", "bucket/x.jpg"),
        ("file:///tmp/a%20b.jpg", "/tmp/a b.jpg", "/tmp/a b.jpg"),
        ("/tmp/../tmp/x.jpg", "/tmp/x.jpg", "/tmp/x.jpg"),
    ],
)
def test_places_are_shown_without_secrets(text: str, shown: str, path: str) -> None:
    place = place_of(text)
    assert (str(place), place.path) == (shown, path)
