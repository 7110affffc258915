"""The images that a command line names, what of a folder is left out, and what their results are called."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from t2d_runtime.cli import main
from t2d_runtime.commands.inputs import FoundImages, InputImage, find_images
from t2d_runtime.commands.output_names import output_names
from t2d_runtime.errors import ImageError, OptionError, T2DError
from t2d_runtime.results.outputs import ResultWriter, formats_of

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def picture(path: Path, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path, kind)
    return path


def found_in(*arguments: object, recursive: bool = False) -> FoundImages:
    return find_images([str(argument) for argument in arguments], recursive=recursive)


def paths(found: FoundImages) -> list[Path | None]:
    return [image.path for image in found.images]


def segment(bundle: Path, *arguments: object) -> int:
    options = ("--classes", "sky,sea", "--backend", "onnxruntime", "--format", "json")
    return main(["segment", str(bundle), *options, *map(str, arguments)])


def test_what_a_folder_holds_by_chance_is_left_out_and_counted(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "macos"
    picture(folder / "photo.JPG", "JPEG")
    for name in ("._photo.jpg", ".DS_Store", "clip.mpg", "data.h5", "grid.grib", "page.pdf", "notes", "Thumbs.db"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07 no picture")
    (folder / "inside").mkdir()
    special = ""
    if os.name == "posix":
        (folder / "gone.png").symlink_to(folder / "nowhere.png")
        os.mkfifo(folder / "pipe.png")
        special = "devices, pipes or broken links (2), "
    output = tmp_path / "out"
    assert segment(exported_bundle, folder, "--output", output) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        f"left out: {special}hidden files (2), other files than images (6), subfolders, which --recursive enters (1)"
    )
    assert [path.name for path in output.iterdir()] == ["photo.json"]


def test_results_are_never_the_next_pictures(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = picture(tmp_path / "a.png")
    options = ("--output", tmp_path, "--format", "overlay,png,grey")
    assert segment(exported_bundle, image, *options) == 0
    for path in list(tmp_path.glob("a.*.png")):
        path.rename(tmp_path / f"moved-{path.name}")
    found = found_in(tmp_path)
    assert paths(found) == [image]
    assert found.left_out_line() == "left out: results of earlier runs (3)"
    capsys.readouterr()
    for folder in (tmp_path, tmp_path / ".." / tmp_path.name, tmp_path / "*.png"):
        assert segment(exported_bundle, folder, "--output", tmp_path) == 0
        assert "[1/1]" in capsys.readouterr().out


def test_a_picture_with_the_name_of_a_result_is_a_picture(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.labels.png")
    assert paths(found_in(tmp_path)) == [image]


def test_files_without_a_suffix_are_known_by_their_content(tmp_path: Path) -> None:
    images = [picture(tmp_path / kind.lower(), kind) for kind in ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")]
    (tmp_path / "README").write_text("no picture")
    (tmp_path / "sound").write_bytes(b"RIFF\0\0\0\0WAVE")
    assert paths(found_in(tmp_path)) == images
    assert paths(found_in(tmp_path / "README")) == [tmp_path / "README"], "named, it is told why it is none"


def test_subfolders_are_entered_and_mirrored(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nested = tmp_path / "nested"
    first, second = picture(nested / "one" / "a.png"), picture(nested / "two" / "deep" / "a.png")
    picture(nested / ".thumbnails" / "a.png")
    if os.name == "posix":
        (nested / "one" / "link").symlink_to(nested / "two")
        (nested / "two" / "loop").symlink_to(nested)
    assert segment(exported_bundle, nested, "--output", tmp_path / "out") == 2
    assert "holds no image; expected JPEG, PNG or others" in (line := capsys.readouterr().err)
    assert "subfolders, which --recursive enters (2)" in line
    found = found_in(nested, recursive=True)
    assert paths(found) == [first, second]
    assert found.left_out_line() == "left out: hidden files (1)", "links to what is found anyway are not followed"
    if os.name == "posix":
        (tmp_path / "linked").mkdir()
        (tmp_path / "linked" / "away").symlink_to(nested / "two" / "deep")
        (away,) = found_in(tmp_path / "linked", recursive=True).images
        assert away.folder == PurePath("away")
    assert segment(exported_bundle, nested, "--recursive", "--output", tmp_path / "out") == 0
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.json")}
    assert written == {"one/a.json", "two/deep/a.json"}


def test_an_image_given_twice_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path / "in")
    found = found_in("a.png", "./a.png", "../in/a.png", image, ".", "*.png")
    assert paths(found) == [Path("a.png")]
    assert found.left_out_line() == "left out: images given twice (5)"
    (tmp_path / "in" / "b.png").hardlink_to(image)
    assert len(found_in(".").images) == 2, "a link has a name of its own"
    if os.name == "posix":
        (tmp_path / "link").symlink_to(tmp_path / "in")
        assert len(found_in("a.png", tmp_path / "link" / "a.png").images) == 1


def test_patterns_that_the_shell_left_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = picture(Path("a1.png")), picture(Path("a2.jpg"), "JPEG")
    picture(Path("inside/b.png"))
    Path("a3.txt").write_text("")
    assert paths(found_in("a*")) == [first, second]
    assert paths(found_in("*")) == [first, second, Path("inside/b.png")]
    assert paths(found_in("**/b.png")) == [Path("inside/b.png")]
    (nothing,) = found_in("x*.png").images
    with pytest.raises(OptionError, match=r"no image matches 'x\*\.png'"):
        nothing.load()
    (nothing,) = found_in("a*.txt").images
    with pytest.raises(OptionError, match=r"no image matches 'a\*\.txt'; .*; left out: other files than images \(1\)"):
        nothing.load()
    literal = picture(Path("a[1].png"))
    assert paths(found_in("a[1].png")) == [literal]


def test_one_image_comes_from_standard_input(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    for content, status in ((stream.getvalue(), 0), (b"", 2), (b"no picture", 2)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert segment(exported_bundle, "-", "--output", tmp_path / "out") == status
        if status:
            assert "standard input" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stdin.json"]
    (image,) = found_in("-", "/dev/stdin").images
    assert image.name_in_run == "stdin"
    np.testing.assert_array_equal(InputImage(picture(tmp_path / "a.png")).load(), PIXELS)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(ImageError, match="standard input is empty"):
        InputImage(None).load()


def test_a_folder_that_cannot_be_listed_stands_among_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    listed = Path.iterdir

    def iterdir(folder: Path) -> object:
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = found_in(tmp_path, recursive=True)
    assert paths(found) == [image, tmp_path / "closed"]
    with pytest.raises(OptionError, match="cannot be listed: Permission denied"):
        found.images[1].load()


@pytest.mark.parametrize("name", ["", "n" * 300, "n/" * 3000, "\udce9.png"])
def test_names_that_cannot_be_are_told_as_images(name: str) -> None:
    (image,) = found_in(name).images
    with pytest.raises(T2DError):
        image.load()


# Names of the results


def names_of(images: Sequence[object], formats: str = "overlay,json") -> list[str]:
    writer = ResultWriter(Path("out"), formats_of(formats))
    given = [image if isinstance(image, InputImage) else InputImage(Path(str(image))) for image in images]
    return [name.as_posix() for name in output_names(given, writer.paths_of)]


def test_names_are_short_and_each_another() -> None:
    assert names_of(["a/x.png", "b/y.jpg"]) == ["x", "y"]
    assert names_of(["IMG.jpg", "IMG.png", "z.png"]) == ["IMG.jpg", "IMG.png", "z"]
    assert names_of(["IMG.jpg", "img.png"]) == ["IMG.jpg", "img.png"], "one name on file systems without cases"
    assert names_of(["caf\u00e9.png", "cafe\u0301.jpg"]) == ["caf\u00e9.png", "cafe\u0301.jpg"]
    assert names_of(["IMG", "IMG.png"]) == ["IMG", "IMG.png"]
    assert names_of(["p/a/x.png", "p/b/x.png"]) == ["a/x", "b/x"]
    assert names_of(["p/a/x.png", "p/a/x.jpg", "p/b/x.png"]) == ["a/x", "x.jpg", "b/x"]
    assert names_of(["a/c/x.png", "b/c/x.png"]) == ["a/c/x", "b/c/x"]
    assert names_of(["IMG.jpg", "IMG.png", "IMG.jpg.png"]) == ["IMG.jpg", "IMG.png", "IMG.jpg.png"]
    assert names_of([InputImage(None), "stdin.png"]) == ["stdin", "stdin.png"]


def test_names_of_one_image_s_results_are_not_another_s() -> None:
    """x.scores.png has x.scores.npz as its labels, which is what the scores of x.png are called."""
    assert names_of(["x.png", "x.scores.png"], "npz,scores") == ["x.png", "x.scores.png"]


def test_mirrored_names_of_two_folders_are_parted_by_the_folders() -> None:
    images = [InputImage(Path(f"/p/{folder}/deep/x.png"), PurePath("deep")) for folder in ("one", "two")]
    assert names_of(images) == ["one/deep/x", "two/deep/x"]


def test_what_nothing_parts_is_refused() -> None:
    with pytest.raises(OptionError, match="standard input and standard input would both be written as stdin"):
        names_of([InputImage(None), InputImage(None)])


def test_twins_are_both_done(exported_bundle: Path, tmp_path: Path) -> None:
    picture(tmp_path / "twins" / "IMG.png")
    picture(tmp_path / "twins" / "IMG.jpg", "JPEG")
    for _ in range(2):
        assert segment(exported_bundle, tmp_path / "twins", "--output", tmp_path / "out") == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["IMG.jpg.json", "IMG.png.json"]


def test_long_names_are_written_and_too_long_ones_told(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitting = [picture(tmp_path / "in" / f"{stem}.png").stem for stem in ("n" * 250, "\u732b" * 83)]
    picture(tmp_path / "in" / f"{'o' * 251}.png")
    assert segment(exported_bundle, tmp_path / "in", "--output", tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("File name too long; shorten the name")
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == fitting
