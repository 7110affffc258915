"""What is damaged: one function a kind of input. Each prepares an input and hands back the call that takes it.

A further kind is one more function in KINDS.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from t2d_runtime.bundle.files import MANIFEST, TOKENIZER, Bundle
from t2d_runtime.bundle.manifest import Manifest, sealed
from t2d_runtime.image.reading import load_image
from t2d_runtime.words.class_files import parse_words, read_class_file
from t2d_runtime.words.class_list import checked_classes
from t2d_runtime.words.text import Tokenizer, check_templates
from t2d_runtime.words.vocabulary import ClassEmbeddings
from tests.fuzz.damage import damaged, damaged_json, spliced

Call = Callable[[], object]

_UNREAD = ("EPS", "PDF", "PALM", "BUFR", "GRIB", "HDF5", "WMF", "IM")
"""Formats of Pillow's that are not read at all; of these only the two that people meet are among the inputs."""

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr")

_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "JPEG": ({}, {"progressive": True}, {"optimize": True, "restart_marker_blocks": 2}, {"comment": b"x" * 300}),
    "PNG": ({}, {"compress_level": 0}, {"bits": 4}),
    "WEBP": ({}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
    "TIFF": tuple(
        {"compression": name} for name in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")
    ),
    "JPEG2000": ({}, {"irreversible": True}, {"no_jp2": True}),
    "TGA": ({}, {"compression": "tga_rle"}),
    "ICO": ({}, {"bitmap_format": "bmp"}),
}


def images(rng: Random, folder: Path, bundle: Path) -> Call:
    """A picture of any format that Pillow writes, damaged; given in one of the ways that `load_image` takes."""
    content = _picture(rng)
    content = damaged(spliced(content, _picture(rng), rng) if rng.random() < 0.1 else content, rng)
    options = {"allow_truncated": rng.random() < 0.3, "max_pixels": 10**6}
    way = rng.choice(["bytes", "bytes", "file", "path", "PIL"])
    given: Any = content
    if way == "file":
        given = io.BytesIO(content)
    elif way == "path":
        given = folder / f"image{rng.choice(['.png', '.jpg', '.eps', '', '.tif'])}"
        given.write_bytes(content)
    elif way == "PIL":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                given = Image.open(io.BytesIO(content))
            except Exception:  # noqa: BLE001  Pillow's, called by the user
                given = content

    def call() -> object:
        pixels = load_image(given, **options)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size > 3 * 10**6:
            raise AssertionError(f"{pixels.shape} and {pixels.dtype}")
        return pixels

    return call


def manifests(rng: Random, folder: Path, bundle: Path) -> Call:
    """A manifest whose bytes or values are damaged, its seal made anew for half of them; its bundle opened."""
    content = (bundle / MANIFEST).read_bytes()
    if rng.random() < 0.3:
        content = damaged(content, rng)
    else:
        value = damaged_json(json.loads(content), rng)
        text = sealed(value) if rng.random() < 0.8 else json.dumps(value)
        content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.5:
        return lambda: Manifest.from_json(content.decode("utf-8", "replace"))
    for path in bundle.rglob("*"):
        place = folder / "bundle" / path.relative_to(bundle)
        if path.is_file() and not place.exists():  # of its size; nothing opens it
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.truncate(path.stat().st_size)
    (folder / "bundle" / MANIFEST).write_bytes(content)
    return lambda: Bundle.open(folder / "bundle").left_off


def vocabularies(rng: Random, folder: Path, bundle: Path) -> Call:
    """A vocabulary of either kind, damaged."""
    suffix = rng.choice([".npz", ".safetensors"])
    path = folder / f"words{suffix}"
    path.write_bytes(damaged(_vocabulary(suffix, folder), rng))
    return lambda: ClassEmbeddings.load(path)


def words(rng: Random, folder: Path, bundle: Path) -> Call:
    """Class names and templates of any characters: checked, and encoded by the tokenizer where they pass."""
    tokenizer = _tokenizer(bundle / TOKENIZER)
    texts: list[Any] = [_text(rng) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.05:
        texts.append(rng.choice([None, 1, b"sky", ["sky"], 1.5]))

    def call() -> object:
        names = checked_classes(texts).names
        templates = check_templates([f"a photo of a {{}} {_text(rng)}"])
        return tokenizer.encode([template.replace("{}", name) for name in names for template in templates])

    return call


_CLASS_FILE = """\
# what to look for
sky; heaven @0.57
sea; ocean; water
caf\u00e9  # with a comment
a \\; b
- wall
- shadow; dark corner
"""

_CLASSES = {"classes": {"person": ["man", "woman"], "sky": "sky"}, "negatives": ["wall"], "thresholds": {"sky": 0.5}}


def class_files(rng: Random, folder: Path, bundle: Path) -> Call:
    """A class file, of text or JSON, or the text of --classes, damaged."""
    way = rng.choice(["text", "JSON", "option"])
    if way == "JSON":
        text = json.dumps(damaged_json(json.loads(json.dumps(rng.choice([_CLASSES, [*_CLASSES["classes"]]]))), rng))
    else:
        text = rng.choice([_CLASS_FILE, "sky, sea, sand", "\n".join(_text(rng) for _ in range(4))])
    content = text.encode("utf-8", "surrogatepass")
    content = damaged(content, rng) if rng.random() < 0.7 else content
    if way == "option":
        return lambda: parse_words(content.decode("utf-8", "surrogateescape"))
    path = folder / f"classes{rng.choice(['.txt', '.json', ''])}"
    path.write_bytes(content)
    return lambda: read_class_file(path)


def captions(rng: Random, folder: Path, bundle: Path) -> Call:
    """A captions file of any kind, damaged. What reads it is training's, which is not there with the runtime alone."""
    from tests.fuzz.captions import attempt, cases

    name, content = next(cases(rng.getrandbits(32)))
    return lambda: attempt(folder, name, content)


KINDS: dict[str, Callable[[Random, Path, Path], Call]] = {
    kind.__name__: kind for kind in (images, manifests, vocabularies, words, class_files, captions)
}

OF_THE_RUNTIME = tuple(name for name in KINDS if name != "captions")


def _picture(rng: Random) -> bytes:
    name = rng.choice(_formats())
    options = rng.choice(_OPTIONS.get(name, ({},)))
    return _encoded(name, rng.choice(_MODES), rng.randrange(len(_SIZES)), tuple(options.items()), rng.randrange(3))


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return (*(name for name in sorted(Image.SAVE) if name not in _UNREAD), "EPS", "PDF")


_SIZES = ((1, 1), (17, 9), (64, 48), (33, 70))


@cache
def _encoded(name: str, mode: str, size: int, options: tuple[tuple[str, Any], ...], seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*_SIZES[size], 4), np.uint8)
    pixels[: len(pixels) // 2, :, :3] //= 8  # some of it compresses
    image = Image.fromarray(pixels)
    image = image.convert("L") if mode in ("LA", "I;16") else image
    mode = "1" if ("compression", "group4") in options else mode
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image.convert(mode).save(stream, name, **dict(options))
        except (OSError, ValueError, KeyError, TypeError):  # the format has no such mode
            stream = io.BytesIO()
            image.convert("RGB").save(stream, name if name not in ("MSP", "XBM", "BLP") else "PNG")
    return stream.getvalue()


@cache
def _vocabulary(suffix: str, folder: Path) -> bytes:
    vectors = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = folder / f"whole{suffix}"
    phrases = ("sky", "heaven", "sea", "café", "wall")
    ClassEmbeddings(("sky", "sea", "café"), vectors, "0" * 64, phrases, (0, 0, 1, 2, -1), {"sky": 0.5}).save(path)
    return path.read_bytes()


@cache
def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(path, 77)


def _text(rng: Random) -> str:
    letters = (
        "abcXYZ' -_{}&;,.#<|>0189\t\n\0\u00e9\u0301\u200b\u202e\ufeff\ud800\udfff\U0001f41f\u4e2d\u0e01\u0627\u3002ﬁİı"
    )
    pieces = ["&amp;", "&#160;", "<|endoftext|>", "<|startoftext|>", "sky", "Ã©", "'s", "  ", "&#xD800;", "&#0;"]
    length = rng.choice([1, 3, 10, 30, 100, 300] if rng.random() < 0.95 else [0, 1200])
    return "".join(
        rng.choice(pieces)
        if rng.random() < 0.2
        else rng.choice(letters)
        if rng.random() < 0.8
        else chr(rng.randrange(0x110000))
        for _ in range(length)
    )
