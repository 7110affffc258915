"""A user's own files stay: results replace results, and nothing else without being told to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2d_runtime import Segmenter
from t2d_runtime.cli import main
from t2d_runtime.commands.protection import check_folder
from t2d_runtime.errors import OutputError
from t2d_runtime.results.formats import FORMATS
from t2d_runtime.storage.own_files import TEXT_MARK, is_own, own_file, refuse_foreign
from t2d_runtime.storage.whole_file import whole_file

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path)
    return path


def segment(bundle: Path, *arguments: object) -> int:
    options = ("--classes", "sky,sea", "--backend", "onnxruntime")
    return main(["segment", str(bundle), *map(str, arguments), *options])


def test_every_format_of_ours_is_known_by_its_content(exported_bundle: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    assert segment(exported_bundle, image, "--format", ",".join(FORMATS), "--output", tmp_path / "out") == 0
    written = list((tmp_path / "out").iterdir())
    assert len(written) == len(FORMATS)
    for path in written:
        renamed = path.rename(path.with_name(f"renamed-{path.name}.dat"))
        assert is_own(renamed) == (path.suffix != ".csv"), path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_vocabularies_are_known(segmenter: Segmenter, tmp_path: Path, suffix: str) -> None:
    segmenter.encode_classes(["sky", "sea"]).save(tmp_path / f"a{suffix}")
    segmenter.encode_classes({"sky": ["sky", "heaven"]}, negatives=["wall"]).save(tmp_path / f"b{suffix}")
    assert is_own(tmp_path / f"a{suffix}")
    assert is_own(tmp_path / f"b{suffix}")


@pytest.mark.parametrize(
    ("before", "after"), [("# ", ""), ("", "\n"), ("// ", ""), ('<?xml version="1.0"?>\n<!-- ', " -->")]
)
def test_text_with_the_mark_in_front_is_known(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "a").write_text(f"{before}{TEXT_MARK}{after}\nand more")
    assert is_own(tmp_path / "a")


def foreign_files(folder: Path) -> list[Path]:
    """Files of other programs, and damaged ones of ours."""
    folder.mkdir()
    picture(folder / "photo.png")
    np.savez(folder / "arrays.npz", generator=np.array("another 1.0"), label_map=PIXELS)
    np.savez(folder / "more.npz", label_map=PIXELS)
    contents = {
        "empty": b"",
        "annotation.json": json.dumps({"version": "5.5.0", "shapes": []}).encode(),
        "edited.json": json.dumps({"version": "5.5.0", "generator": "t2d-runtime 0.1.0"}).encode(),
        "twin.json": json.dumps({"generator": "t2d-runtimes 0.1.0"}).encode(),
        "list.json": b"[1, 2]",
        "cut.png": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
        "cut.npz": b"PK\x03\x04 and no more",
        "weights.safetensors": (2).to_bytes(8, "little") + b"{}",
        "long.safetensors": b"\xff" * 64,
        "text": b"t2d-runtime wrote this",
        "notes": b"The generator: t2d-runtime 0.2.0\n",
        "later.svg": b"<svg>\n<!-- generator: t2d-runtime 0.2.0 -->",
        "twin.txt": b"# generator: t2d-runtimes 0.2.0\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def test_files_of_others_are_not_taken_for_ours(tmp_path: Path) -> None:
    for path in foreign_files(tmp_path / "others"):
        content = path.read_bytes()
        assert not is_own(path), path
        with pytest.raises(OutputError, match=r"exists and is not a result of t2d-runtime; .* --overwrite"):
            refuse_foreign(path)
        with pytest.raises(OutputError), own_file(path) as file:
            file.write(b"new")
        assert path.read_bytes() == content
        with own_file(path, overwrite=True) as file:
            file.write(b"new")
        assert path.read_bytes() == b"new"


def test_a_file_made_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(OutputError, match="exists and is not a result"), own_file(path):
        path.write_bytes(b"another program's")
    assert path.read_bytes() == b"another program's"
    assert list(tmp_path.iterdir()) == [path]


def make_special(path: Path) -> None:
    """A pipe, or a link to nowhere."""
    if path.stem == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.with_name("nowhere"))


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    names = ["pipe", "link"] if os.name == "posix" else []
    for name in names:
        make_special(tmp_path / name)
        assert not is_own(tmp_path / name)
        reason = "a pipe or a device, expected a file" if name == "pipe" else "exists and is not a result"
        with pytest.raises(OutputError, match=reason):
            refuse_foreign(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="Is a directory; a folder has this name"):
        refuse_foreign(tmp_path / "folder", overwrite=True)
    with pytest.raises(OutputError, match="File name too long; shorten the name"):
        refuse_foreign(tmp_path / ("n" * 300))
    with pytest.raises(OutputError, match="embedded null byte"):
        refuse_foreign(tmp_path / "a\0b", overwrite=True)


def test_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    names = ["link", "pipe"] if os.name == "posix" else []
    if names:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("pipe")
    for name in names:
        with pytest.raises(OutputError, match="a pipe or a device, expected a file"):
            refuse_foreign(tmp_path / name, overwrite=True)
        with pytest.raises(OutputError, match="a pipe or a device, expected a file"), whole_file(tmp_path / name):
            pass
        assert (tmp_path / name).is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_an_annotation_beside_the_picture_stays(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = picture(tmp_path / "photo.png")
    annotation = tmp_path / "photo.json"
    annotation.write_text('{"version": "5.5.0", "shapes": []}')
    assert segment(exported_bundle, tmp_path, "--output", tmp_path) == 2
    assert capsys.readouterr().err.startswith(f"t2d: error: {annotation} exists and is not a result of")
    assert annotation.read_text() == '{"version": "5.5.0", "shapes": []}'
    assert sorted(tmp_path.iterdir()) == [annotation, image]
    assert segment(exported_bundle, tmp_path, "--output", tmp_path, "--overwrite") == 0
    assert "generator" in json.loads(annotation.read_text())
    np.testing.assert_array_equal(np.asarray(Image.open(image)), PIXELS)


def test_of_many_the_one_with_a_file_in_its_place_is_told(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / "in" / f"{name}.png")
    (tmp_path / "out" / "c.json").mkdir(parents=True)
    (tmp_path / "out" / "b.json").write_text("mine")
    options = ("--format", "json", "--output", tmp_path / "out")
    assert segment(exported_bundle, tmp_path / "in", *options) == 1
    out, err = capsys.readouterr()
    assert [line.split(" failed: ")[0] for line in err.splitlines()] == [
        f"[{number}/3] {tmp_path / 'in' / name}" for number, name in ((2, "b.png"), (3, "c.png"))
    ]
    assert out.splitlines()[-1].startswith("1 of 3 images segmented in")
    assert (tmp_path / "out" / "b.json").read_text() == "mine"
    assert segment(exported_bundle, tmp_path / "in", *options) == 1, "a.json, the first run's, is replaced"


def test_where_nothing_can_be_written_nothing_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [picture(tmp_path / f"{name}.png") for name in ("a", "b")]
    for image in images:
        image.with_suffix(".json").write_text("mine")
    assert segment(tmp_path / "no bundle", *images, "--output", tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *(f"[{number}/2] {image} failed" for number, image in enumerate(images, start=1)),
        "t2d",
    ]
    assert lines[-1] == "t2d: error: none of the 2 images could be segmented"


def test_where_all_fail_the_status_is_2_and_the_last_line_counts_them(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    assert segment(exported_bundle, tmp_path, "--output", tmp_path / "out") == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("0 of 2 images segmented in")
    assert out.splitlines()[-1].endswith("; 2 failed")
    assert len(err.splitlines()) == 3
    assert not (tmp_path / "out").exists()


def linked(kind: str, folder: Path, inputs: Path) -> Path:
    """An output folder in which a.labels.png is the input of that name, in one of many ways."""
    if kind == "same":
        return inputs
    if kind == "spelled":
        return inputs / ".." / inputs.name
    if kind == "folder link":
        folder.symlink_to(inputs)
    elif kind == "symbolic link":
        folder.mkdir()
        (folder / "a.labels.png").symlink_to(inputs / "a.labels.png")
    else:
        folder.mkdir()
        (folder / "a.labels.png").hardlink_to(inputs / "a.labels.png")
    return folder


SYMBOLIC_LINKS = ["folder link", "symbolic link"] if os.name == "posix" else []
"""On Windows they need a right that users do not have."""


@pytest.mark.parametrize("kind", ["same", "spelled", "hard link", *SYMBOLIC_LINKS])
def test_no_input_is_an_output(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    first, second = picture(tmp_path / "in" / "a.png"), picture(tmp_path / "in" / "a.labels.png")
    before = second.read_bytes()
    output = linked(kind, tmp_path / "out", tmp_path / "in")
    for overwrite in ([], ["--overwrite"]):
        assert segment(exported_bundle, first, second, "--output", output, *overwrite) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "a.labels.png would be written, but it is an input of this run" in line
        assert second.read_bytes() == before
        assert not (output / "a.overlay.png").exists()


def test_words_and_bundles_are_inputs_too(
    bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, words = picture(tmp_path / "manifest.png"), tmp_path / "words.json"
    words.write_text('["sky", "sea"]')
    manifest = (bundle_copy / "manifest.json").read_bytes()
    arguments = ["segment", str(bundle_copy), str(image), "--classes-file", str(words), "--format", "json"]
    assert main([*arguments, "--overwrite", "--output", str(bundle_copy)]) == 2
    assert "it is a file of the bundle" in capsys.readouterr().err
    assert (bundle_copy / "manifest.json").read_bytes() == manifest
    arguments[2] = str(image.rename(tmp_path / "words.png"))
    assert main([*arguments, "--overwrite", "--output", str(tmp_path)]) == 2
    assert "it is an input of this run" in capsys.readouterr().err
    assert words.read_text() == '["sky", "sea"]'


def test_classes_and_bench_replace_no_file_of_others(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "words.npz"
    np.savez(output, a=PIXELS)
    arguments = ["classes", str(exported_bundle), "--classes", "sky", "--output", str(output)]
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert main(arguments) == 0, "its own is replaced"
    figures = tmp_path / "figures.json"
    figures.write_text("{}")
    assert main(["bench", str(exported_bundle), "--json", str(figures)]) == 2
    assert "exists and is not a result" in capsys.readouterr().err
    assert figures.read_text() == "{}"
    assert main(["bench", "--compare", str(figures), str(figures), "--json", str(output)]) == 2
    assert "--json has no effect with --compare" in capsys.readouterr().err
    assert main(["bench", str(exported_bundle), "--overwrite"]) == 2
    assert "--overwrite has no effect without --json" in capsys.readouterr().err


def test_an_output_folder_that_is_a_file_is_said_before_any_work(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(tmp_path / "a.png")
    assert segment(exported_bundle, image, "--output", image) == 2
    assert "is not a folder; choose another --output" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match=r"no permission for .*; choose a folder that this user may write to"):
        check_folder(tmp_path / "new")
