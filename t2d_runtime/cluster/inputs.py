"""Finds the pictures that a command line names: folders, patterns, lists, WebDataset shards, Parquet files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from t2d_runtime.cluster.images import RowGroup, Shard
from t2d_runtime.cluster.places import Place, place_of
from t2d_runtime.errors import ImageError, ImageNotFoundError, OptionError
from t2d_runtime.image.folder_files import HIDDEN, NO_IMAGE, RESULT, is_hidden
from t2d_runtime.image.formats import image_suffixes
from t2d_runtime.results.formats import FORMATS, FileFormat
from t2d_runtime.storage.own_files import is_own_content

TAR, PARQUET, LIST = (".tar",), (".parquet", ".pq"), (".txt", ".lst", ".list")
"""Suffixes of WebDataset shards, Parquet files and lists of paths."""

COLUMNS = ("image", "bytes", "content", "path")
"""Names of a Parquet column that holds pictures or their paths, the first that a file has; --column names another."""

READ_AT_ONCE = 16
"""Parquet files whose footers are read at the same time."""

_MAGIC = re.compile(r"[*?\[]")


class Found(NamedTuple):
    """A file of an input."""

    root: str
    path: str


@dataclass
class Inputs:
    """Everything that is to be segmented. Each picture is in it once."""

    files: list[Found] = field(default_factory=list)
    """Pictures that are files, in order."""
    shards: list[Shard] = field(default_factory=list)
    row_groups: list[RowGroup] = field(default_factory=list)
    """Those of Parquet files with encoded pictures."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> number of files left out of folders and patterns."""

    def left_out_line(self) -> str:
        """A line about the files left out; empty where there are none."""
        reasons = [f"{reason} ({count})" for reason, count in sorted(self.left_out.items()) if count]
        return f"left out: {', '.join(reasons)}" if reasons else ""


def find_inputs(arguments: Sequence[str], *, recursive: bool = False, column: str | None = None) -> Inputs:
    """Look up the pictures, shards and Parquet files that arguments name.

    A folder gives its pictures; one without pictures its shards and Parquet files. A pattern gives what it matches. A
    list has a path or an address a line, relative ones below the list's folder. Hidden files and others are left out
    of folders and counted. What is given twice is taken once.
    Raises OptionError for an argument without pictures, ImageNotFoundError for a missing one, ImageError for a list or
    a Parquet file that cannot be read.
    """
    found = Inputs()
    seen: set[Found] = set()
    tables: list[Place] = []
    for argument in arguments:
        if not argument:
            raise OptionError(
                "an input's name is empty; expected a folder, a pattern, a list, a shard or a Parquet file"
            )
        for place in _places_of(argument, found.left_out, recursive=recursive):
            _add(place, found, seen, tables, column)
    if tables:
        _read_tables(tables, found, seen, column)
    if column is not None and not (tables or found.shards):
        raise OptionError("--column has no effect without a Parquet file or a WebDataset shard; leave it out")
    return found


def _add(place: Place, found: Inputs, seen: set[Found], tables: list[Place], column: str | None) -> None:
    key = Found(place.root, place.path)
    if key in seen:
        found.left_out["given twice"] += 1
        return
    seen.add(key)
    if place.suffix in TAR:
        found.shards.append(Shard(place, None if column is None else f".{column.lower().lstrip('.')}"))
    elif place.suffix in PARQUET:
        tables.append(place)
    else:
        found.files.append(key)


def _places_of(argument: str, left_out: Counter[str], *, recursive: bool) -> Iterator[Place]:
    """The files that one argument names."""
    place = place_of(argument)
    info = _info(place)
    if info == "folder":
        yield from _of_folder(place, left_out, recursive=recursive)
    elif info == "file":
        if place.suffix in LIST:
            yield from _of_list(place)
        elif place.suffix in (*TAR, *PARQUET) or place.suffix in image_suffixes() or not place.suffix:
            yield place
        else:
            raise OptionError(
                f"{place}: files of this kind are not read; expected a picture, {', '.join((*TAR, *PARQUET, *LIST))}, "
                "a folder or a pattern"
            )
    elif _MAGIC.search(place.path):
        yield from _of_pattern(place, left_out)
    else:
        raise ImageNotFoundError(f"{place}: no such file or folder")


def _info(place: Place) -> str:
    from pyarrow import fs

    try:
        (info,) = place.filesystem.get_file_info([place.path])
    except OSError as error:
        raise ImageError(f"{place} cannot be looked up: {error}") from error
    return {fs.FileType.Directory: "folder", fs.FileType.File: "file"}.get(info.type, "")


def _listed(folder: Place, *, recursive: bool) -> tuple[list[str], int]:
    """Sorted paths of the files in a folder, hidden ones left out, and the number of its subfolders."""
    from pyarrow import fs

    try:
        infos = folder.filesystem.get_file_info(fs.FileSelector(folder.path, recursive=recursive))
    except OSError as error:
        raise ImageError(f"{folder} cannot be listed: {error}") from error
    files = sorted(info.path for info in infos if info.type == fs.FileType.File)
    folders = sum(info.type == fs.FileType.Directory for info in infos)
    return files, 0 if recursive else folders


def _of_folder(folder: Place, left_out: Counter[str], *, recursive: bool) -> Iterator[Place]:
    paths, subfolders = _listed(folder, recursive=recursive)
    here = Counter({"subfolders, which --recursive enters": subfolders})
    places = _without_results(folder.root, _shown(paths, folder.path, here), here)
    pictures = [place for place in places if place.suffix in image_suffixes()]
    kept = pictures or [place for place in places if place.suffix in (*TAR, *PARQUET)]
    here[NO_IMAGE if pictures else "other files"] += len(places) - len(kept)
    left_out.update(here)
    if not kept:
        raise OptionError(
            f"{folder} holds no picture, {' or '.join((TAR[0], PARQUET[0]))}; "
            + (Inputs(left_out=here).left_out_line() or "it is empty")
        )
    yield from kept


def _shown(paths: Sequence[str], base: str, left_out: Counter[str]) -> list[str]:
    """Paths without those of hidden files, or of files in hidden folders, below a folder."""
    start = len(base.rstrip("/")) + 1
    shown = [path for path in paths if not any(map(is_hidden, path[start:].split("/")))]
    left_out[HIDDEN] += len(paths) - len(shown)
    return shown


def _without_results(root: str, paths: Sequence[str], left_out: Counter[str]) -> list[Place]:
    """The files without pictures that `t2d segment` wrote.

    Their names tell which files may be such, and the mark in these decides: to open every file of a store takes too
    long.
    """
    named = tuple(found.suffix for found in FORMATS.values() if isinstance(found, FileFormat))
    places = [Place(root, path) for path in paths]
    maybe = [place for place in places if place.suffix in image_suffixes() and place.path.lower().endswith(named)]
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        results = {place for place, own in zip(maybe, pool.map(_is_own, maybe), strict=True) if own}
    left_out[RESULT] += len(results)
    return [place for place in places if place not in results]


def _is_own(place: Place) -> bool:
    try:
        with place.filesystem.open_input_file(place.path) as file:
            return is_own_content(file)
    except OSError:  # told when the picture is read
        return False


def _of_pattern(pattern: Place, left_out: Counter[str]) -> Iterator[Place]:
    """The files that match a pattern with *, ?, [...] and ** for folders at any depth."""
    parts = pattern.path.split("/")
    first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    base = Place(pattern.root, "/".join(parts[:first]) or "/")
    if _info(base) != "folder":
        raise ImageNotFoundError(f"{pattern}: there is no folder {base}")
    try:
        expected = re.compile(_expression(parts[first:]), re.DOTALL)
    except re.error as error:
        raise OptionError(f"{pattern} is no pattern: {error}; expected *, ?, [...] or **") from error
    start = len(base.path.rstrip("/")) + 1
    paths, _ = _listed(base, recursive=first < len(parts) - 1 or "**" in parts)
    matching = [path for path in _shown(paths, base.path, Counter()) if expected.fullmatch(path[start:])]
    known = {*image_suffixes(), *TAR, *PARQUET}
    here: Counter[str] = Counter()
    places = _without_results(base.root, matching, here)
    kept = [place for place in places if place.suffix in known]
    here["other files"] += len(places) - len(kept)
    left_out.update(here)
    if not kept:
        message = f"no picture, {TAR[0]} or {PARQUET[0]} matches {pattern}"
        raise OptionError("; ".join(filter(None, (message, Inputs(left_out=here).left_out_line()))))
    yield from kept


def _expression(parts: Sequence[str]) -> str:
    """The regular expression of a pattern's parts, for a path below its folder."""
    pieces = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            pieces.append(".*" if last else "(?:.*/)?")
            continue
        pieces.append(_within_name(part) + ("" if last else "/"))
    return "".join(pieces)


def _within_name(part: str) -> str:
    """The regular expression of a pattern's part. fnmatch's would match slashes too."""
    pieces = []
    for token in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL):
        if token in ("*", "?"):
            pieces.append({"*": "[^/]*", "?": "[^/]"}[token])
        elif len(token) > 1:
            inside = re.sub(r"[\\\[\]]", r"\\\g<0>", token[1:-1])
            pieces.append(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
        else:
            pieces.append(re.escape(token))
    return "".join(pieces)


def _of_list(place: Place) -> Iterator[Place]:
    try:
        with place.filesystem.open_input_stream(place.path) as stream:
            lines = stream.read().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{place} cannot be read: {error}; expected a UTF-8 text with one path a line") from error
    named = [line.strip() for line in lines if line.strip()]
    if not named:
        raise OptionError(f"{place} names no picture; expected one path a line")
    yield from (place_of(line, place.folder) for line in named)


def _read_tables(tables: Sequence[Place], found: Inputs, seen: set[Found], column: str | None) -> None:
    """Add the pictures of Parquet files: row groups of encoded ones, or the files that a column names."""
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        for table, content in zip(tables, pool.map(lambda place: _of_table(place, column), tables), strict=True):
            if isinstance(content, list):
                found.row_groups += content
                continue
            for text in content:
                named = place_of(text, table.folder)
                key = Found(named.root, named.path)
                if key in seen:
                    found.left_out["given twice"] += 1
                else:
                    seen.add(key)
                    found.files.append(key)


def _of_table(place: Place, column: str | None) -> list[RowGroup] | tuple[str, ...]:
    """The row groups of a Parquet file with encoded pictures, or the paths in a file of paths."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with place.filesystem.open_input_file(place.path) as file:
            opened = parquet.ParquetFile(file)
            name = _column_of(opened.schema_arrow, column, place)
            kind = opened.schema_arrow.field(name).type
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                paths = opened.read(columns=[name]).column(0).to_pylist()
                if None in paths or "" in paths:
                    raise ImageError(f"{place}: the column {name} has rows without a path; leave them out of the file")
                return tuple(paths)
            rows = [opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"{place} cannot be read as Parquet: {error}") from error
    firsts = [sum(rows[:number]) for number in range(len(rows))]
    return [RowGroup(place, number, name, firsts[number], count) for number, count in enumerate(rows) if count]


def _column_of(schema: Any, column: str | None, place: Place) -> str:
    """The column with pictures or paths. Raises OptionError where there is none, or of another type."""
    import pyarrow as pa

    known = [name for name in schema.names if name == column] if column else [c for c in COLUMNS if c in schema.names]
    if not known:
        wanted = f"no column {column!r}" if column else f"none of the columns {', '.join(COLUMNS)}"
        raise OptionError(f"{place} has {wanted}; name with --column one of {', '.join(schema.names)}")
    kind = schema.field(known[0]).type
    inside = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    takes = (pa.types.is_binary, pa.types.is_large_binary)
    if not any(is_kind(inside) for is_kind in takes) and not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ):
        raise OptionError(
            f"{place}: the column {known[0]} is {kind}, expected paths (string), the bytes of pictures (binary), or "
            "Hugging Face's struct of bytes and path"
        )
    return known[0]
