"""The Parquet dataset that a run writes: its columns, its parts, and the settings that it was made with.

Each part is written whole under a name made from the paths of its pictures, so that a batch which is done twice gives
the same part. Settings are in the metadata of every part's schema; the folder has no other file.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from t2d_runtime.cluster.places import OBJECT_STORES, Place
from t2d_runtime.errors import OptionError, OutputError
from t2d_runtime.storage.whole_file import NAME_PART, whole_file

SETTINGS_KEY = b"t2d-runtime"
"""Key of the schema's metadata that holds the settings, as JSON."""

FINISHED_KEY = b"t2d-runtime-finished"
"""Key of the schema's metadata that names the shards whose last picture is in the part, as a JSON list."""

READ_AT_ONCE = 16
"""Parts that are read at the same time."""

_PART = re.compile(r"part-[0-9a-f]{32}\.parquet")
_UNFINISHED = re.compile(r"\.part-[0-9a-f]{32}[a-z.]*-[0-9a-f]{16}")
"""Names of parts, and of those that were being written when their process ended."""


ABANDONED_S = 600
"""Age from which an unfinished part is nobody's: a part is written at once, from rows in memory. Another run that
writes to the same dataset keeps its younger ones."""


class Mask(TypedDict):
    """One label of a picture, with at least one pixel."""

    label: int
    name: str
    pixels: int
    mean_score: float
    size: list[int]
    """[height, width]."""
    counts: str
    """COCO's compressed run lengths."""


class Row(TypedDict):
    """One picture."""

    path: str
    height: int | None
    width: int | None
    masks: list[Mask] | None
    error: str | None
    """The reason why the picture has no masks, in one line."""


@dataclass
class Content:
    """Everything that a dataset holds already."""

    settings: Mapping[str, Any] | None = None
    """The settings of its first part; None where it has no part."""
    done: set[str] = field(default_factory=set)
    """Paths of all pictures, failed ones included."""
    failed: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    """Shards of which every picture is done."""
    parts: set[str] = field(default_factory=set)
    with_failures: set[str] = field(default_factory=set)
    """Parts that hold a picture that failed."""
    twice: int = 0
    """Pictures that are in two parts."""


def schema_of(settings: Mapping[str, Any], finished: Sequence[str] = ()) -> Any:
    """The `pyarrow.Schema` of a part. `finished`: shards whose last picture is in it."""
    import pyarrow as pa

    mask = pa.struct(
        {
            "label": pa.int32(),
            "name": pa.string(),
            "pixels": pa.int64(),
            "mean_score": pa.float64(),
            "size": pa.list_(pa.int32()),
            "counts": pa.string(),
        }
    )
    columns = {
        "path": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "masks": pa.list_(mask),
        "error": pa.string(),
    }
    metadata = {SETTINGS_KEY: json.dumps(settings)}
    if finished:
        metadata[FINISHED_KEY] = json.dumps(list(finished))
    return pa.schema(columns, metadata)


def part_name(paths: Iterable[str]) -> str:
    """Name of the part that holds the pictures with these paths, in this order."""
    digest = hashlib.sha256("\0".join(paths).encode("utf-8", "surrogatepass")).hexdigest()
    return f"part-{digest[:32]}.parquet"


def write_part(output: Place, rows: Sequence[Row], settings: Mapping[str, Any], finished: Sequence[str] = ()) -> str:
    """Write a part, whole or not at all; returns its name. An existing one with the same pictures stays or is replaced.

    Raises OutputError.
    """
    import pyarrow as pa

    name = part_name(row["path"] for row in rows)
    table = pa.Table.from_pylist(rows, schema_of(settings, finished))
    if output.is_local:
        with whole_file(Path(output.path) / name) as file:
            _write(table, file)
        return name
    target = output / name
    filesystem = output.filesystem
    at_once = filesystem.type_name in OBJECT_STORES
    written = target if at_once else output / f".{name[:NAME_PART]}-{secrets.token_hex(8)}"
    try:
        with filesystem.open_output_stream(written.path) as file:
            _write(table, file)
        if not at_once:
            filesystem.move(written.path, target.path)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error}") from error
    return name


def _write(table: Any, file: Any) -> None:
    from pyarrow import parquet

    parquet.write_table(table, file, compression="zstd")


def counts_of_part(output: Place, name: str) -> tuple[int, int] | None:
    """The numbers of pictures and of failed ones in a part; None where there is no such part. Raises OutputError."""
    from pyarrow import fs

    place = output / name
    try:
        (info,) = place.filesystem.get_file_info([place.path])
    except OSError as error:
        raise OutputError(f"{place} cannot be looked up: {error}") from error
    if info.type != fs.FileType.File:
        return None
    _, paths, failed = _read_part(place)
    return len(paths), len(failed)


def parts_of_output(output: Place) -> list[str]:
    """Names of the parts that an output folder has now. Raises OutputError."""
    return [info.base_name for info in _listed(output) if _PART.fullmatch(info.base_name)]


def _listed(output: Place) -> list[Any]:
    """The `pyarrow.fs.FileInfo` of everything that an output folder holds; nothing where there is none."""
    from pyarrow import fs

    try:
        infos = output.filesystem.get_file_info(fs.FileSelector(output.path, allow_not_found=True))
    except OSError as error:
        raise OutputError(f"{output} cannot be listed: {error}; choose another --output") from error
    return [info for info in infos if info.path.rstrip("/") != output.path]


def prepare_output(output: Place, *, create: bool) -> list[str]:
    """Names of the parts that an output folder has, which is made where it is missing and `create` asks for it.

    Parts that were left unfinished are removed. Raises OutputError where it holds anything else, or cannot be used.
    """
    try:
        if create and output.filesystem.type_name not in OBJECT_STORES:  # there it would leave an empty object
            output.filesystem.create_dir(output.path, recursive=True)
        names = remove_unfinished(output)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write into {output}: {error}; choose another --output") from error
    others = sorted(name for name in names if not _PART.fullmatch(name))
    if others:
        raise OutputError(
            f"{output} holds {others[0]}, which is no part of a dataset of this command; choose another --output"
        )
    return names


def remove_unfinished(output: Place) -> list[str]:
    """Remove parts that killed workers have not finished; returns the names of the other files. Raises OSError.

    One that is young, or of no known age, stays: another run may be about to finish it.
    """
    names = []
    for info in _listed(output):
        if not _UNFINISHED.fullmatch(info.base_name):
            names.append(info.base_name)
        elif info.mtime is not None and time.time() - info.mtime.timestamp() >= ABANDONED_S:
            output.filesystem.delete_file(info.path)
    return names


def read_content(output: Place, names: Sequence[str]) -> Content:
    """Read which pictures a dataset holds. Raises OutputError for a part that is damaged or of another program."""
    content = Content(parts=set(names))
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        parts = pool.map(_read_part, (output / name for name in names))
        for name, (metadata, paths, failed) in zip(names, parts, strict=True):
            settings = json.loads(metadata[SETTINGS_KEY])
            if content.settings is None:
                content.settings = settings
            else:
                check_settings(output, content.settings, settings, "another part has")
            content.twice += sum(path in content.done for path in paths)
            content.done.update(paths)
            content.failed.update(failed)
            content.finished.update(json.loads(metadata.get(FINISHED_KEY, b"[]")))
            if failed:
                content.with_failures.add(name)
    return content


def remove_failed_parts(output: Place, content: Content, inside: Callable[[str], bool]) -> int:
    """Remove the parts with failed pictures, so that all of their pictures are missing again.

    Parts that also hold pictures which are not `inside` this run's inputs stay; returns their number. Raises
    OutputError.
    """
    kept = 0
    for name in sorted(content.with_failures):
        place = output / name
        if not all(inside(path) for path in _read_part(place)[1]):
            kept += 1
            continue
        try:
            place.filesystem.delete_file(place.path)
        except OSError as error:
            raise OutputError(f"{place} cannot be removed: {error}") from error
    return kept


def _read_part(place: Place) -> tuple[Mapping[bytes, bytes], list[str], list[str]]:
    """A part's metadata, its paths, and the paths that failed."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with place.filesystem.open_input_file(place.path) as file:
            table = parquet.read_table(file, columns=["path", "error"])
    except (OSError, KeyError, pa.ArrowException) as error:
        raise OutputError(
            f"{place} is damaged: {error}; remove it and run again: its pictures are then done"
        ) from error
    metadata = table.schema.metadata or {}
    if SETTINGS_KEY not in metadata:
        raise OutputError(f"{place} was not written by this command; choose another --output")
    paths = table.column("path").to_pylist()
    errors = table.column("error").to_pylist()
    return metadata, paths, [path for path, error in zip(paths, errors, strict=True) if error is not None]


NOT_COMPARED = ("generator", "rows_per_file")
"""Settings that may change between the runs of one dataset."""


def check_settings(output: Place, made: Mapping[str, Any], now: Mapping[str, Any], this: str = "this run has") -> None:
    """Raises OptionError where two settings of a dataset differ. It names the first that does."""
    for key in [*made, *(key for key in now if key not in made)]:
        if key not in NOT_COMPARED and made.get(key) != now.get(key):
            before, after = made.get(key), now.get(key)
            if isinstance(before, dict) and isinstance(after, dict):
                inner = next(name for name in [*before, *after] if before.get(name) != after.get(name))
                key, before, after = f"{key}.{inner}", before.get(inner), after.get(inner)
            raise OptionError(
                f"{output} was made with {key} {_short(before)}, {this} {_short(after)}; give the same again, or "
                "choose another --output"
            )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
