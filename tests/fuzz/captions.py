"""Damaged captions files: every outcome of reading one is its captions or a T2DError."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from t2d_runtime.errors import T2DError
from training.features.captions import read_captions

BYTES = (b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b" " * 50, b"x" * 140_000)
SYNTAX = (b",", b";", b"\t", b'"', b'""', b"\n", b"\r", b"\r\n", b"[", b"}", b"null", b"1e999", b"NaN", b"9" * 5000)
WORDS = (b"\\ud800", b"\\u0000", b"a.png", b"image", b"caption")
PIECES = (*BYTES, *SYNTAX, *WORDS)


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """File names and contents without end: whole files of each kind, each damaged in one to eight places."""
    rng = random.Random(seed)
    whole = list(_whole())
    while True:
        name, content = rng.choice(whole)
        damaged = bytearray(content.decode().encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"))))
        for _ in range(rng.randint(1, 8)):
            start = rng.randrange(len(damaged) + 1)
            damaged[start : start + rng.choice((0, 0, 1, 1, 2, 20))] = rng.choice((b"", rng.randbytes(1), *PIECES))
        yield name, bytes(damaged)


def attempt(folder: Path, name: str, content: bytes) -> bool:
    """Read one file in `folder`, an existing one: whether it could be read. Whatever is no T2DError is raised."""
    path = folder / name
    path.write_bytes(content)
    try:
        found = read_captions(path, folder)
    except T2DError:
        return False
    for image in found.images:
        assert image.captions
        "".join((str(image.path), *image.captions)).encode()
    return True


def _whole() -> Iterator[tuple[str, bytes]]:
    rows = [("a.png", "a boat, at sea"), ("b.png", 'the "sun"'), ("a.png", "été")]
    for separator in ",;\t|":
        lines = [f"image{separator}caption"]
        lines += [separator.join('"' + field.replace('"', '""') + '"' for field in row) for row in rows]
        yield "captions.csv", "\r\n".join(lines).encode()
    yield "captions.csv", b"image,caption\na.png,a boat\nb.png,the sun\n"
    objects = [json.dumps({"image": image, "caption": caption}) for image, caption in rows]
    yield "captions.jsonl", "\n".join(objects).encode()
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(3)]
    annotations = [{"id": number, "image_id": number, "caption": "x"} for number in range(3)]
    yield "captions.json", json.dumps({"images": images, "annotations": annotations}).encode()
