"""A picture in any form: paths, bytes, open files, pipes, PIL images; and what cannot be read, with its reason."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2d_runtime import Segmenter
from t2d_runtime.errors import ImageError, ImageNotFoundError, OptionError
from t2d_runtime.image import encoded as encoded_pictures
from t2d_runtime.image.formats import image_suffixes
from t2d_runtime.image.reading import load_image
from tests.runtime.picture_files import encoded, grey_tiff, jpeg_with_exif, orientation, picture, tiff_block

RGB = picture()
PNG = encoded(RGB, "PNG")


class Unseekable(io.RawIOBase):
    """A pipe or a response over HTTP: it hands out a few bytes at a time and cannot go back."""

    def __init__(self, content: bytes) -> None:
        self.rest = content

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        taken, self.rest = self.rest[:7], self.rest[7:]
        return taken


class ReadAlone:
    """An object with nothing but `read`."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def read(self, size: int = -1) -> Any:
        taken, self.content = self.content, b""
        return taken


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO, Unseekable, ReadAlone])
def test_an_encoded_picture_in_any_form_is_taken(kind: Callable[[bytes], Any]) -> None:
    np.testing.assert_array_equal(load_image(kind(PNG)), RGB)


def test_a_picture_just_written_to_a_stream_is_read_from_its_beginning() -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "PNG")
    for _ in range(2):
        np.testing.assert_array_equal(load_image(stream), RGB)


def test_an_open_file_is_taken_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").write_bytes(PNG[:100])
    with (tmp_path / "a.png").open("rb") as file:
        np.testing.assert_array_equal(load_image(file), RGB)
    with (tmp_path / "b.png").open("rb") as file, pytest.raises(ImageError, match=r"b\.png cannot be decoded"):
        load_image(file)
    with pytest.raises(ImageError, match=r"b\.png cannot be read from its open file: .*closed"):
        load_image(file)


def test_a_text_file_opened_as_text_and_other_objects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    with (tmp_path / "a.txt").open(encoding="utf-8") as file, pytest.raises(ImageError, match="binary mode, 'rb'"):
        load_image(file)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="the image gives nothing yet, expected bytes"):
        load_image(ReadAlone(None))
    for given in (None, 3, ["a.png"], {"image": PNG}):
        with pytest.raises(ImageError, match=r"expected an image path, a PIL image or .* got"):
            load_image(given)  # type: ignore[arg-type]


def test_pipes_are_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    writer = threading.Thread(target=_write, args=(writing, PNG))
    writer.start()
    with open(reading, "rb") as pipe:  # noqa: PTH123
        np.testing.assert_array_equal(load_image(pipe), RGB)
    writer.join()
    if not Path("/dev/stdin").exists():  # not on Windows
        return
    code = "from t2d_runtime.image.reading import load_image; print(load_image('/dev/stdin').shape)"
    done = subprocess.run([sys.executable, "-c", code], input=PNG, capture_output=True, check=False)
    assert done.stdout.split() == [b"(24,", b"32,", b"3)"], done.stderr


def _write(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    expected = {
        "folder.png": "is not a file but a folder; give the image files in it",
        "empty.png": "is empty; expected an image",
    }
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "circle.png").symlink_to("circle.png")
        (tmp_path / "nowhere.png").symlink_to("missing.png")
        expected |= {
            "pipe.png": "is not a file but a named pipe; open it and give the open file",
            "circle.png": "cannot be read: its links lead in a circle",
            "empty.png/a.png": "cannot be read: Not a directory",
            "n" * 300: "cannot be read: its name is too long for the file system",
            "/dev/null": "is not a file but a device or a terminal",
        }
    for name, message in expected.items():
        with pytest.raises(ImageError, match=f"{name[-40:]} {message}"):
            load_image(tmp_path / name)
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png: no such image file"):
        load_image(tmp_path / "nowhere.png")
    for address in ("https://example.com/a.jpg", Path("https://example.com/a.jpg")):
        with pytest.raises(ImageNotFoundError, match=r"^https://example\.com/a\.jpg is an address, no file; download"):
            load_image(address)


def test_a_file_without_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(PNG)

    def denied(*_: object, **__: object) -> None:  # root may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ImageError, match=r"a\.png cannot be read: no permission; give this user the right to read it"):
        load_image(tmp_path / "a.png")


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    names = ["a.eps", "a", "a.jpg", "caf\udce9.png"]  # the last in bytes that are no UTF-8
    for name in names if sys.platform == "linux" else names[:-1]:
        (tmp_path / name).write_bytes(PNG)
        np.testing.assert_array_equal(load_image(str(tmp_path / name)), RGB)


# Formats


OTHERS = {
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n": "PostScript, a program, which is never run",
    b"\xc5\xd0\xd3\xc6\x1e\0\0\0" + bytes(60): "PostScript",
    b"%PDF-1.7\n": "a PDF: export its pages",
    b"\xef\xbb\xbf\n<svg xmlns='x'>": "SVG",
    b"<!DOCTYPE HTML><html>": "a web page: download the picture itself",
    b"<HTML>": "a web page",
    b"\0\0\0\x18ftypisom" + bytes(20): "a video",
    b"\xff\x0a" + bytes(20): "JPEG XL",
    b"version https://git-lfs.github.com/spec/v1\n": "a pointer of Git LFS: fetch the file itself",
}


@pytest.mark.parametrize("content", OTHERS)
@pytest.mark.parametrize("name", ["a.jpg", "a.eps", "a.png"])
def test_what_is_often_taken_for_a_picture_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=rf"{name} is not an image but {OTHERS[content]}.*; expected JPEG, PNG"):
        load_image(tmp_path / name)


def test_no_program_is_started_for_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    postscript = encoded(RGB, "EPS")
    for content in (postscript, b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + bytes(24) + postscript):
        with pytest.raises(ImageError, match="is not an image but PostScript"):
            load_image(content)
    with pytest.raises(ImageError, match="the image is EPS, which needs another program to decode; give it as PNG"):
        load_image(Image.open(io.BytesIO(postscript)))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["BMP", "DIB", "DDS", "GIF", "ICO", "ICNS", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF"])
def test_formats_without_loss_give_their_pixels(kind: str) -> None:
    image = Image.fromarray(RGB)
    if kind == "GIF":
        image = image.quantize(16)
    if kind in ("ICO", "ICNS"):
        image = image.resize((32, 32), Image.Resampling.NEAREST)
    options = {"sizes": [(32, 32)]} if kind == "ICO" else {}
    content = encoded(image, kind, **options)
    loaded = load_image(content)
    np.testing.assert_array_equal(loaded, load_image(Image.open(io.BytesIO(content))))
    if kind != "ICNS":  # which holds it in several sizes
        np.testing.assert_array_equal(loaded, np.asarray(image.convert("RGB")))


def test_suffixes_are_those_of_the_formats_that_are_read() -> None:
    suffixes = image_suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".mpo", ".heic", ".jp2", ".bmp"} <= suffixes
    assert not {".eps", ".ps", ".pdf", ".mpg", ".h5", ".wmf", ".grib", ".fits"} & suffixes


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(200)


def test_heic_names_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in encoded_pictures.HEIF_READERS:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageError, match=r"is HEIC \(HEIF\), which Pillow does not read; install pi-heif"):
        load_image(HEIC)


def test_heic_is_read_by_pi_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    class Opened:
        def __init__(self, file: io.BytesIO) -> None:
            assert file.read() == HEIC
            self.size = (32, 24)

        def to_pillow(self) -> Image.Image:
            return Image.fromarray(RGB)

    class Module:
        open_heif = Opened

    monkeypatch.setitem(sys.modules, "pi_heif", Module)
    np.testing.assert_array_equal(load_image(HEIC), RGB)
    with pytest.raises(ImageError, match="32 x 24 pixels, more than the limit of 100"):
        load_image(HEIC, max_pixels=100)


def test_a_segmenter_takes_a_picture_in_any_form(exported_bundle: Path) -> None:
    segmenter = Segmenter.open(exported_bundle, backend="onnxruntime")
    classes = segmenter.encode_classes(["sky", "sea"])
    expected = segmenter.segment(RGB, classes).label_map
    given = (PNG, bytearray(PNG), io.BytesIO(PNG), Unseekable(PNG), Image.open(io.BytesIO(PNG)))
    for image in given:
        np.testing.assert_array_equal(segmenter.segment(image, classes).label_map, expected)
    for result in segmenter.segment_batch([PNG, io.BytesIO(PNG)], classes):
        np.testing.assert_array_equal(result.label_map, expected)
    assert segmenter.segment(RGB[..., 0], classes).label_map.shape == (24, 32)
    with pytest.raises(ImageError, match="the image data is not an image but a PDF"):
        segmenter.segment(b"%PDF-1.7", classes)


# PIL images


def _lazily_opened(tmp_path: Path) -> Iterator[tuple[Image.Image, Any]]:
    large = picture(300, 400)
    (tmp_path / "a.jpg").write_bytes(jpeg_with_exif(encoded(large, "JPEG"), tiff_block(orientation(6))))
    (tmp_path / "a.tif").write_bytes(grey_tiff(large[..., 0].astype("<u2").tobytes(), (300, 400), 16, 0))
    Image.fromarray(large).save(tmp_path / "a.png")
    Image.fromarray(large).quantize(16).save(tmp_path / "a.gif")
    Image.fromarray(large).save(tmp_path / "a.webp")
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            yield image, load_image(path)
        yield Image.open(io.BytesIO(path.read_bytes())), load_image(path)


def test_a_lazily_opened_image_is_right_in_each_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for image, expected in _lazily_opened(tmp_path):
            started = threading.Barrier(4)

            def load(_: int, image: Image.Image = image, started: threading.Barrier = started) -> Any:
                started.wait()
                return load_image(image)

            for pixels in pool.map(load, range(4)):
                np.testing.assert_array_equal(pixels, expected)


def test_an_open_file_is_right_in_each_thread(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(encoded(picture(300, 400), "BMP"))
    with (tmp_path / "a.bmp").open("rb") as file, ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(load_image, [file] * 32):
            np.testing.assert_array_equal(pixels, picture(300, 400))


def test_an_image_that_failed_to_decode_fails_again() -> None:
    """Pillow hands out what it decoded before the fault at the second time."""
    content = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "GIF")
    damaged = content[:-600] + b"\xff" * 300 + content[-300:]
    image = Image.open(io.BytesIO(damaged))
    for _ in range(2):
        with pytest.raises(ImageError, match="the image cannot be decoded"):
            load_image(image)


def test_an_image_keeps_its_frame_and_its_file(tmp_path: Path) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.tif") as image:
        for number in (1, 0, 1):
            image.seek(number)
            np.testing.assert_array_equal(load_image(image), np.asarray(frames[number]))
            assert image.tell() == number


def test_an_image_asked_for_a_draft_stays_one() -> None:
    image = Image.open(io.BytesIO(encoded(picture(64, 80), "JPEG")))
    image.draft("RGB", (20, 16))
    assert load_image(image).shape == (16, 20, 3)


# Limits


def test_the_limit_can_be_raised_and_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(RGB)
    for given in (PNG, image, encoded(image, "WEBP"), encoded(image, "TIFF"), encoded(image, "GIF")):
        with pytest.raises(
            ImageError, match=r"32 x 24 pixels, more than the limit of 767; .*max_pixels or T2D_MAX_PIX"
        ):
            load_image(given, max_pixels=767)
        assert load_image(given, max_pixels=768).shape == RGB.shape
    monkeypatch.setenv("T2D_MAX_PIXELS", "767")
    with pytest.raises(ImageError, match="more than the limit of 767"):
        load_image(PNG)
    assert load_image(PNG, max_pixels=768).shape == RGB.shape
    monkeypatch.setenv("T2D_MAX_PIXELS", "")
    assert load_image(PNG).shape == RGB.shape


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "9", "9" * 5000])
def test_a_limit_that_is_no_whole_number_is_refused(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"max_pixels is .*, expected a whole number from 1"):
        load_image(PNG, max_pixels=value)
    if value != "9":
        monkeypatch.setenv("T2D_MAX_PIXELS", str(value))
        with pytest.raises(OptionError, match=r"T2D_MAX_PIXELS is .*, expected a whole number from 1"):
            load_image(PNG)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP"])
def test_pillow_s_own_limit_does_not_stand_in_the_way(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application's limit is its own; here Pillow would warn, or refuse, above 100 or 200 pixels."""
    content = encoded(Image.fromarray(RGB).quantize(16) if kind == "GIF" else RGB, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500 if kind == "WEBP" else 100)
    assert load_image(content).shape == RGB.shape


def test_a_file_too_long_for_any_picture_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "long.png").open("wb") as file:
        file.write(PNG)
        file.truncate(2**22)
    with pytest.raises(ImageError, match=r"long\.png has more than 16000 bytes, the limit for 1000 pixels"):
        load_image(tmp_path / "long.png", max_pixels=1000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "ICO"])
def test_a_picture_s_memory_is_free_at_once(kind: str) -> None:
    """Not when the garbage collector next looks for objects that hold each other."""
    content = encoded(Image.fromarray(RGB).quantize(16) if kind == "GIF" else RGB, kind)
    load_image(content)
    gc.collect()
    gc.disable()
    try:
        load_image(content)
        assert gc.collect() == 0
    finally:
        gc.enable()
