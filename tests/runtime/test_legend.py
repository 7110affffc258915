"""Legends: any script, a bounded height, none at all."""

from __future__ import annotations

import logging
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from t2d_runtime.cli import main
from t2d_runtime.errors import OptionError
from t2d_runtime.results import fonts
from t2d_runtime.results.visualize import overlay

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""A font with Cyrillic, Greek and Arabic letters, and without Chinese ones."""

IMAGE = np.full((300, 400, 3), 128, np.uint8)


def stripes(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    return np.tile((np.arange(IMAGE.shape[1]) * count // IMAGE.shape[1]).astype(np.uint16), (IMAGE.shape[0], 1))


def legend_of(name: str, font: Path | None = None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    labels = np.zeros(IMAGE.shape[:2], np.uint8)
    return np.asarray(overlay(IMAGE, labels, [name], background=False, font=font))[IMAGE.shape[0] :]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The fonts of the system, to be filled."""
    found: list[Path] = []
    monkeypatch.setattr(fonts, "_system_fonts", lambda: tuple(found))
    fonts._file_for.cache_clear()
    fonts._warn.cache_clear()
    return found


@pytest.mark.parametrize("name", ["небо", "θάλασσα", "سماء", "caf\u00e9"])
def test_a_name_is_drawn_with_a_font_that_has_its_letters(name: str, only: list[Path]) -> None:
    boxes = legend_of(name)
    fonts._file_for.cache_clear()
    only.append(DEJAVU)
    found = legend_of(name)
    assert not np.array_equal(found, boxes)
    np.testing.assert_array_equal(found, legend_of(name, DEJAVU))


def test_latin_names_keep_pillow_s_own_font(only: list[Path]) -> None:
    before = legend_of("sky")
    only.append(DEJAVU)
    fonts._file_for.cache_clear()
    np.testing.assert_array_equal(legend_of("sky"), before)
    assert not np.array_equal(legend_of("sky", DEJAVU), before)


def test_letters_that_no_font_has_are_said_once(
    only: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    only += [tmp_path / "damaged.ttf", DEJAVU]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            legend_of("\u732b")
    assert [record.getMessage() for record in caplog.records] == [
        "no font here has the letters '\u732b': the legend shows boxes; name a font that has them"
    ]


def test_fonts_of_the_system_are_found_in_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/Some-Bold.ttf", "b/SomeSans.otf", "a/Mono.ttc", "a/readme.txt"):
        (tmp_path / "fonts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fonts" / name).touch()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path}:{tmp_path / 'nowhere'}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    fonts._system_fonts.cache_clear()
    found = [file.name for file in fonts._system_fonts()]
    fonts._system_fonts.cache_clear()
    assert found == ["SomeSans.otf", "Mono.ttc", "Some-Bold.ttf"]


def test_a_legend_of_600_names_is_half_as_high_as_the_image() -> None:
    picture = overlay(IMAGE, stripes(400), [f"class {index}" for index in range(600)], background=False)
    assert IMAGE.shape[0] < picture.height <= 1.5 * IMAGE.shape[0] + 20
    assert picture.width == IMAGE.shape[1]
    few = overlay(IMAGE, stripes(4), [f"class {index}" for index in range(4)], background=False)
    assert few.height < 1.2 * IMAGE.shape[0]


def test_the_labels_without_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageDraw

    drawn: list[str] = []
    text = ImageDraw.ImageDraw.text

    def noted(self: ImageDraw.ImageDraw, place: tuple[float, float], words: str, **options: object) -> None:
        drawn.append(words)
        text(self, place, words, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    overlay(IMAGE, stripes(400), [f"class {index}" for index in range(400)], background=False)
    assert drawn[-1] == f"and {400 - len(drawn) + 1} more"
    assert 10 < len(drawn) < 100
    assert drawn[0].startswith("class 0  ")
    drawn.clear()
    overlay(IMAGE, stripes(3), ["a", "b", "c"], background=False)
    assert [words[0] for words in drawn] == ["a", "b", "c"]


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (1, 500), (500, 1)])
def test_tiny_images_have_a_legend_too(size: tuple[int, int]) -> None:
    labels = (np.arange(size[0] * size[1]) % 200).astype(np.uint8).reshape(size)
    picture = overlay(np.zeros((*size, 3), np.uint8), labels, ["m" * 50] * 200, background=False)
    assert picture.height > size[0]


@pytest.mark.parametrize("size", [(1, 8_000_000), (1_000_000, 1)])
def test_an_image_too_thin_for_a_legend_is_an_error_before_the_memory_is_used(size: tuple[int, int]) -> None:
    labels = np.zeros(size, np.uint8)
    pixels = np.broadcast_to(np.uint8(0), (*size, 3))
    expected = rf"an image of {size[1]} x {size[0]} pixels is too thin for a legend.*legend=False or --no-legend"
    with pytest.raises(OptionError, match=expected):
        overlay(pixels, labels, ["sky"], background=False)


def test_without_a_legend_the_picture_has_the_image_s_size() -> None:
    with_legend = overlay(IMAGE, stripes(4), ["a", "b", "c", "d"], background=True)
    without = overlay(IMAGE, stripes(4), ["a", "b", "c", "d"], background=True, legend=False)
    assert without.size == (400, 300)
    np.testing.assert_array_equal(np.asarray(without), np.asarray(with_legend)[:300, :400])


def test_a_font_that_cannot_be_read_or_has_no_effect_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.ttf").write_bytes(b"no font")
    for file, reason in ((tmp_path / "a.ttf", "expected a TrueType"), (tmp_path / "nowhere.ttf", "no such file")):
        with pytest.raises(OptionError, match=rf"font .* cannot be read: .*{reason}"):
            overlay(IMAGE, stripes(2), ["a", "b"], background=False, font=file)
    with pytest.raises(OptionError, match="font has no effect without a legend"):
        overlay(IMAGE, stripes(2), ["a", "b"], background=False, font=DEJAVU, legend=False)


def test_the_command_takes_a_font_and_leaves_the_legend_out(exported_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    arguments = [
        "segment",
        str(exported_bundle),
        str(tmp_path / "a.png"),
        "--classes",
        "sky,sea",
        "--format",
        "overlay",
    ]
    arguments += ["--backend", "onnxruntime"]
    pictures = {}
    for name, options in {"plain": [], "font": ["--font", str(DEJAVU)], "bare": ["--no-legend"]}.items():
        assert main([*arguments, *options, "--output", str(tmp_path / name)]) == 0
        with Image.open(tmp_path / name / "a.overlay.png") as picture:
            pictures[name] = np.asarray(picture)
    assert pictures["bare"].shape == IMAGE.shape
    assert not np.array_equal(pictures["plain"], pictures["font"])
