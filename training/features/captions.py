"""Captioned images: COCO's captions JSON, or a folder with captions.csv or captions.jsonl."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2d_runtime.errors import DataError

COCO_IN_FOLDER = Path("annotations") / "captions.json"
CSV, JSONL = "captions.csv", "captions.jsonl"


@dataclass(frozen=True)
class CaptionedImage:
    """An image file and its captions, at least one, under the ids of the captions file."""

    image_id: int
    path: Path
    captions: tuple[str, ...]
    caption_ids: tuple[int, ...]


@dataclass(frozen=True)
class CaptionFile:
    """The captions of a data set in the order of its file; the file itself for its sha256."""

    path: Path
    images: list[CaptionedImage]


def read_captions(source: Path, images: Path | None = None) -> CaptionFile:
    """Read the captions at `source`.

    `source` is a COCO captions JSON, or a folder with annotations/captions.json, captions.csv or captions.jsonl, the
    latter two of entries `image` (a file name) and `caption`. File names are relative to `images`; without it, to
    the folder `images` beside annotations (COCO), or to the folder itself.
    Images without a caption are left out.
    Raises DataError for a missing file, an entry that is incomplete, an id given twice, a caption without an image.
    """
    path = _captions_path(source)
    if path.suffix == ".json":
        default = path.parent.parent / "images"
        entries, captions = _read_coco(path)
    else:
        default = path.parent
        entries, captions = _read_pairs(path)
    folder = images or default
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: expected the images of {path} there; name it with --images")
    found = [
        CaptionedImage(image_id, folder / name, *zip(*captions[image_id], strict=True))
        for image_id, name in entries.items()
        if image_id in captions
    ]
    if not found:
        raise DataError(f"{path} has no captions")
    return CaptionFile(path, found)


Captions = dict[int, list[tuple[str, int]]]
"""Image id -> its captions with their ids."""


def _captions_path(source: Path) -> Path:
    if not source.is_dir():
        if source.suffix == ".json" and source.is_file():
            return source
        raise DataError(
            f"{source}: expected an existing captions .json, or a folder with {COCO_IN_FOLDER}, {CSV} or {JSONL}"
        )
    candidates = [source / name for name in (COCO_IN_FOLDER, CSV, JSONL)]
    found = [path for path in candidates if path.is_file()]
    if len(found) != 1:
        raise DataError(f"{source}: expected one of {COCO_IN_FOLDER}, {CSV} and {JSONL}, got {len(found)} of them")
    return found[0]


def _read_coco(path: Path) -> tuple[dict[int, str], Captions]:
    content = _parse_json(_read_text(path), str(path))
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise DataError(f"{path}: expected COCO captions, an object with the lists 'images' and 'annotations'")
    names: dict[int, str] = {}
    for number, entry in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        image_id = _field(entry, "id", int, where)
        if image_id in names:
            raise DataError(f"{where}: image id {image_id} is given twice")
        names[image_id] = _field(entry, "file_name", str, where)
    captions: Captions = {}
    seen: set[int] = set()
    for number, entry in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        caption_id = _field(entry, "id", int, where) if isinstance(entry, dict) and "id" in entry else number
        image_id = _field(entry, "image_id", int, where)
        if caption_id in seen:
            raise DataError(f"{where}: caption id {caption_id} is given twice")
        if image_id not in names:
            raise DataError(f"{where}: caption {caption_id} is of image {image_id}, which 'images' does not list")
        seen.add(caption_id)
        captions.setdefault(image_id, []).append((_field(entry, "caption", str, where), caption_id))
    return names, captions


def _read_pairs(path: Path) -> tuple[dict[int, str], Captions]:
    """Images are numbered in the order of their first entry, captions in the order of the file."""
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    captions: Captions = {}
    for caption_id, (where, entry) in enumerate(_entries(path)):
        name = _field(entry, "image", str, where)
        image_id = numbers.setdefault(name, len(numbers))
        names[image_id] = name
        captions.setdefault(image_id, []).append((_field(entry, "caption", str, where), caption_id))
    return names, captions


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    lines = io.StringIO(_read_text(path), newline="")  # a caption may hold other line separators than \n
    rows: Iterable[Any]
    if path.suffix == ".csv":
        rows = csv.DictReader(lines)
    else:
        rows = (_parse_json(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip())
    for number, row in enumerate(rows, 1):
        yield f"{path}, entry {number}", row


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: save it as such") from error


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error


def _field(entry: object, name: str, kind: type[Any], where: str) -> Any:
    value = entry.get(name) if isinstance(entry, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is str and not value.strip()):
        raise DataError(f"{where}: expected {name!r}, {'text' if kind is str else 'an integer'}, got {value!r}")
    return value
