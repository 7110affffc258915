"""Pictures of an input: paths, the members of a WebDataset shard, the rows of a Parquet file."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from t2d_runtime.cluster.places import Place, shown_path
from t2d_runtime.errors import ImageError, ImageNotFoundError
from t2d_runtime.image.formats import image_suffixes
from t2d_runtime.image.sizes import pixel_limit
from t2d_runtime.image.sources import read_file, read_path

FETCHED_AHEAD = 8
"""Files fetched at the same time by a worker. A store answers after tens of milliseconds, so one at a time is slow."""

ROWS_AT_ONCE = 16
"""Rows of a Parquet file that are decoded together."""


@dataclass(frozen=True)
class Files:
    """Pictures that are files of one filesystem."""

    root: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """A tar file of WebDataset: its members with a picture's suffix, or with one suffix alone."""

    place: Place
    suffix: str | None
    skipped: frozenset[str] = frozenset()
    """Names of pictures, as the dataset has them, that are done."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file, of which one column holds encoded pictures."""

    place: Place
    number: int
    column: str
    first_row: int
    """Number of its first row in the file, from 0."""
    count: int
    skipped: frozenset[int] = frozenset()
    """Numbers of rows in the file that are done."""


Unit = Files | Shard | RowGroup
"""Pictures that one worker takes in a row."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture, or the reason why it cannot be read."""

    path: str
    """Name in the dataset: a path or an address, for members of other files with # and the member's name."""
    content: bytes | ImageError | ImageNotFoundError


def member_path(container: Place, member: str | int) -> str:
    """Name in the dataset of a shard's member or a Parquet file's row."""
    return f"{container}#{member}"


def pictures_of(unit: Unit) -> Iterator[Picture]:
    """The pictures of a unit in order, a few read ahead.

    A picture that cannot be read has the reason as its content. A shard that cannot be read to its end gives a last
    picture with the shard's own name and the reason.
    """
    if isinstance(unit, Files):
        return _of_files(unit)
    return _of_shard(unit) if isinstance(unit, Shard) else _of_rows(unit)


def _of_files(unit: Files) -> Iterator[Picture]:
    with ThreadPoolExecutor(FETCHED_AHEAD) as pool:
        waiting = [pool.submit(_fetch, unit.root, path) for path in unit.paths[:FETCHED_AHEAD]]
        for path in (*unit.paths[FETCHED_AHEAD:], *[None] * FETCHED_AHEAD):
            if not waiting:
                return
            yield waiting.pop(0).result()
            if path is not None:
                waiting.append(pool.submit(_fetch, unit.root, path))


def _fetch(root: str, path: str) -> Picture:
    name = shown_path(root, path)
    try:
        return Picture(name, _read(Place(root, path), name))
    except (ImageError, ImageNotFoundError) as error:
        return Picture(name, error)


def _read(place: Place, name: str) -> bytes | ImageError:
    if place.is_local:
        return read_path(place.path, pixel_limit(None))[0]
    try:
        with place.filesystem.open_input_stream(place.path) as stream:
            return _content(stream, name)
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"{name}: no such image file") from error
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error}") from error


def _of_shard(unit: Shard) -> Iterator[Picture]:
    suffixes = image_suffixes() if unit.suffix is None else frozenset((unit.suffix,))
    try:
        with (
            unit.place.filesystem.open_input_stream(unit.place.path, compression=None) as stream,
            tarfile.open(fileobj=stream, mode="r|*") as shard,
        ):
            for member in shard:
                path = member_path(unit.place, member.name)
                if not member.isfile() or not _has_suffix(member.name, suffixes) or path in unit.skipped:
                    continue
                file = shard.extractfile(member)
                if file is not None:
                    yield Picture(path, _content(file, path))
    except (tarfile.TarError, OSError, EOFError) as error:
        if str(unit.place) not in unit.skipped:
            yield Picture(str(unit.place), ImageError(f"{unit.place} cannot be read as a tar file: {error}"))


def _has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    """True for a member with one of these suffixes. WebDataset's begin at the first dot: cat.left.jpg has left.jpg."""
    _, dot, extension = name.rpartition("/")[2].partition(".")
    extension = (dot + extension).lower()
    return extension in suffixes or f".{extension.rpartition('.')[2]}" in suffixes


class _Reading:
    """A file of a store or a shard that is only read, from its beginning; some of them fail when asked to seek."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; none at the end."""
        content: bytes = self._file.read(size)
        return content


def _content(file: Any, name: str) -> bytes | ImageError:
    try:
        return read_file(_Reading(file), pixel_limit(None))[0]
    except ImageError as error:
        return ImageError(f"{name}: {error}")


def _of_rows(unit: RowGroup) -> Iterator[Picture]:
    import pyarrow as pa
    from pyarrow import parquet

    row, end = unit.first_row, unit.first_row + unit.count
    reason = ImageError(f"{unit.place} has fewer rows than when this run began")
    try:
        with unit.place.filesystem.open_input_file(unit.place.path) as file:
            for batch in parquet.ParquetFile(file).iter_batches(
                ROWS_AT_ONCE, row_groups=[unit.number], columns=[unit.column]
            ):
                for value in batch.column(0):
                    if row not in unit.skipped:
                        yield _of_value(value.as_py(), member_path(unit.place, row))
                    row += 1
    except (OSError, pa.ArrowException) as error:
        reason = ImageError(f"{unit.place} cannot be read as Parquet: {error}")
    yield from (Picture(member_path(unit.place, left), reason) for left in range(row, end) if left not in unit.skipped)


def _of_value(value: Any, path: str) -> Picture:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        return Picture(path, ImageError(f"{path} has no picture, expected the bytes of one"))
    return Picture(path, content)
