"""Captioned images: COCO's captions JSON, a CSV file, or JSON Lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from t2d_runtime.errors import DataError
from training.features.caption_table import checked_text, parse_json, read_csv, read_json_lines, read_text

COCO_IN_FOLDER = Path("annotations") / "captions.json"
CSV, JSONL = "captions.csv", "captions.jsonl"
SUFFIXES = (".json", ".csv", ".jsonl")


@dataclass(frozen=True)
class CaptionedImage:
    """An image file and its captions, at least one, under the ids of the captions file."""

    image_id: int
    path: Path
    captions: tuple[str, ...]
    caption_ids: tuple[int, ...]


@dataclass(frozen=True)
class CaptionFile:
    """The captions of a data set in the order of its file, and the file's path, for its sha256."""

    path: Path
    images: list[CaptionedImage]


def read_captions(source: Path, images: Path | None = None) -> CaptionFile:
    """Read the captions at `source`.

    `source` is a COCO captions .json, a .csv whose first line names the columns `image` (a file name) and `caption`, a
    .jsonl of objects with these two, or a folder with annotations/captions.json, captions.csv or captions.jsonl. File
    names are relative to `images`; without it, to the folder `images` beside annotations (COCO), or to the folder of
    the file. Images without a caption are left out.
    Raises DataError, which names the place, for a missing or damaged file, an incomplete or ambiguous entry, an id
    given twice, or a caption without an image.
    """
    path = _captions_path(source)
    if path.suffix.lower() == ".json":
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
        if source.suffix.lower() in SUFFIXES and source.is_file():
            return source
        raise DataError(
            f"{source}: expected an existing captions file ({', '.join(SUFFIXES)}), or a folder with "
            f"{COCO_IN_FOLDER}, {CSV} or {JSONL}"
        )
    candidates = [source / name for name in (COCO_IN_FOLDER, CSV, JSONL)]
    found = [path for path in candidates if path.is_file()]
    if len(found) != 1:
        raise DataError(f"{source}: expected one of {COCO_IN_FOLDER}, {CSV} and {JSONL}, got {len(found)} of them")
    return found[0]


def _read_coco(path: Path) -> tuple[dict[int, str], Captions]:
    content = parse_json(read_text(path), str(path))
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise DataError(f"{path}: expected COCO captions, an object with the lists 'images' and 'annotations'")
    names: dict[int, str] = {}
    for number, entry in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        image_id = _id(entry, "id", where)
        if image_id in names:
            raise DataError(f"{where}: image id {image_id} is given twice")
        names[image_id] = _text(entry, "file_name", where)
    captions: Captions = {}
    seen: set[int] = set()
    for number, entry in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        caption_id = _id(entry, "id", where) if isinstance(entry, dict) and "id" in entry else number
        image_id = _id(entry, "image_id", where)
        if caption_id in seen:
            raise DataError(f"{where}: caption id {caption_id} is given twice")
        if image_id not in names:
            raise DataError(f"{where}: caption {caption_id} is of image {image_id}, which 'images' does not list")
        seen.add(caption_id)
        captions.setdefault(image_id, []).append((_text(entry, "caption", where), caption_id))
    return names, captions


def _read_pairs(path: Path) -> tuple[dict[int, str], Captions]:
    """Read pairs; numbers images in the order of their first entry, and captions in the order of the file."""
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    captions: Captions = {}
    for caption_id, entry in enumerate(read_csv(path) if path.suffix.lower() == ".csv" else read_json_lines(path)):
        image_id = numbers.setdefault(entry.image, len(numbers))
        names[image_id] = entry.image
        captions.setdefault(image_id, []).append((entry.caption, caption_id))
    return names, captions


def _field(entry: object, name: str) -> object:
    return entry.get(name) if isinstance(entry, Mapping) else None


def _text(entry: object, name: str, where: str) -> str:
    return checked_text(_field(entry, name), name, where)


def _id(entry: object, name: str, where: str) -> int:
    value = _field(entry, name)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise DataError(f"{where}: expected {name!r}, an integer, got {value!r:.80}")
    return value
