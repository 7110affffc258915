"""Weights in several files: an index of shards, a folder of shards, or a model folder in a hub's form."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from t2d_runtime.bundle.files import sha256_of
from t2d_runtime.errors import WeightsError, WeightsNotFoundError

INDEX_SUFFIX = ".index.json"
"""Ending of the index that Hugging Face's libraries write beside shards. Its `weight_map` gives each key's shard."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

HUB_NAMES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
"""Files that Hugging Face's libraries look for in a folder, in this order. Each is a whole model."""

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.bin)")


def shards_of(path: Path) -> tuple[list[Path], set[str] | None]:
    """The files that hold a checkpoint, and the keys that an index lists, or None without an index.

    Raises WeightsNotFoundError where a shard is missing or a folder holds no weights. Raises WeightsError where an
    index cannot be read or names a file outside its folder, or where a folder holds the weights of several models.
    """
    if path.is_dir():
        path = _in_folder(path)
    if path.is_dir():
        return _unindexed_shards(path), None
    if path.name.endswith(INDEX_SUFFIX):
        return _indexed_shards(path)
    match = SHARD.fullmatch(path.name)
    if match and int(match["count"]) > 1:
        raise WeightsError(
            f"{path} is one of {int(match['count'])} shards; give their index ({path.parent.name}/...{INDEX_SUFFIX}) "
            f"or the folder {path.parent}"
        )
    return [path], None


def sha256_of_weights(path: Path) -> str:
    """The sha256 of a checkpoint's file. For several files, that of all their names and digests."""
    files, _ = shards_of(path)
    if len(files) == 1:
        return sha256_of(files[0])
    lines = "".join(f"{file.name} {sha256_of(file)}\n" for file in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def part_file(path: Path, part: str) -> Path:
    """The file of one part, where `path` is a model folder with a file for each part; else `path`."""
    own = path / f"{part}.safetensors"
    return own if path.is_dir() and own.is_file() else path


def _in_folder(folder: Path) -> Path:
    """The index or file to read a folder's weights from; the folder itself where it holds shards without an index."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in HUB_NAMES:
        if name in names:
            return folder / name
    indices = [name for name in names if name.endswith(INDEX_SUFFIX)]
    if len(indices) == 1:
        return folder / indices[0]
    weights = [name for name in names if name.endswith(SUFFIXES)]
    if weights and all(SHARD.fullmatch(name) for name in weights) and not indices:
        return folder
    found = indices or weights
    if len(found) == 1:
        return folder / found[0]
    if not found:
        raise WeightsNotFoundError(
            f"{folder} holds no weights: expected {', '.join(HUB_NAMES)}, or one file of {', '.join(SUFFIXES)}"
        )
    raise WeightsError(f"{folder} holds {len(found)} weights ({', '.join(found[:5])}); give the path of one")


def _indexed_shards(index: Path) -> tuple[list[Path], set[str]]:
    names, keys = indexed_names(index)
    return _present(index.parent, names, index), keys


def indexed_names(index: Path) -> tuple[list[str], set[str]]:
    """Names of the shards in an index, and the keys that it lists. Raises WeightsError and WeightsNotFoundError."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsNotFoundError(f"{index} is no file: expected an index of shards") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{index} cannot be read as JSON ({error}); get it again") from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise WeightsError(f"{index} holds no weight_map from keys to files; expected an index of shards")
    return sorted(set(places.values())), set(places)


def _unindexed_shards(folder: Path) -> list[Path]:
    matches = [match for path in folder.iterdir() if (match := SHARD.fullmatch(path.name))]
    series = {(match["stem"], match["count"], match["suffix"]) for match in matches}
    if len(series) > 1:
        names = sorted(f"{stem}-...-of-{count}{suffix}" for stem, count, suffix in series)
        raise WeightsError(f"{folder} holds the shards of {len(series)} models ({', '.join(names)}); keep one in it")
    ((stem, count, suffix),) = series
    names = [f"{stem}-{number:05}-of-{count}{suffix}" for number in range(1, int(count) + 1)]
    return _present(folder, names, folder)


def _present(folder: Path, names: Iterable[str], where: Path) -> list[Path]:
    """The shards of these names. Links are followed, as in a hub's cache, but no name leads out of the folder."""
    files = []
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
            raise WeightsError(f"{where} names the shard {name!r}, which is no file of its folder")
        if not name.endswith(SUFFIXES):
            raise WeightsError(f"{where} names the shard {name!r}, expected one of {', '.join(SUFFIXES)}")
        files.append(folder / name)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise WeightsNotFoundError(
            f"{where}: {len(missing)} of {len(files)} shards are missing ({', '.join(missing[:3])}); get them too"
        )
    return files
