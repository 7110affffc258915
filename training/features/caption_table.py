"""Reads tables of captions, CSV and JSON Lines, written by spreadsheets and scripts.

Every fault is an error that names the file and the line. Nothing is cut or guessed: an ambiguous table is refused.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from t2d_runtime.errors import DataError

COLUMNS = ("image", "caption")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "'|'"}

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    # UTF-32's mark begins with UTF-16's.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""First bytes of a file -> its encoding. Excel writes UTF-8 and UTF-16 with them."""

_LINE_END = re.compile(r"\r\n|\r|\n")


class Entry(NamedTuple):
    """An image, its caption, and their place in the file."""

    image: str
    caption: str
    where: str


class _Row(NamedTuple):
    line: int
    fields: list[str]


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in the encoding that its byte order mark names.

    Raises DataError, which names the line, for other encodings and for NUL characters.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, errors="replace")
        raise DataError(
            f"{path}, line {_line_of(before)}: byte 0x{content[error.start]:02x} is not {encoding.upper()} text; save "
            "the file as UTF-8"
        ) from error
    if "\0" in text:
        line = _line_of(text[: text.index("\0")])
        raise DataError(f"{path}, line {line}: a NUL character, expected text; save the file as UTF-8")
    return text


def parse_json(text: str, where: str) -> Any:
    """Parse JSON. Raises DataError, which begins with `where`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}") from error


def checked_text(value: object, name: str, where: str) -> str:
    """A field that must hold text, unchanged. Raises DataError for another type, blank text and broken characters."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: expected {name!r}, text, got {value!r:.80}")
    if "\0" in value or not _is_unicode(value):
        raise DataError(f"{where}: {name!r} is {value!r:.80}, which holds a NUL or half a character; correct it")
    return value


def read_csv(path: Path) -> Iterator[Entry]:
    """The entries of a CSV file. Its first line must name the columns `image` and `caption`; others are ignored.

    The separator is the one of comma, semicolon, tab and `|` that gives these two names. Blank lines are ignored.
    Raises DataError.
    """
    text = read_text(path)
    rows = _rows(path, text)
    header = next(rows, None)
    if header is None:
        raise DataError(f"{path} is empty: expected a first line 'image,caption'")
    names, separator = _columns(path, header)
    places = [names.index(column) for column in COLUMNS]
    rows = _rows(path, text, separator)
    next(rows)
    wrong: list[_Row] = []
    for row in rows:
        if len(row.fields) != len(names):
            wrong.append(row)
            continue
        where = f"{path}, line {row.line}"
        image, caption = (row.fields[place] for place in places)
        image = checked_text(image, "image", where).strip()
        caption = checked_text(caption, "caption", where)
        _check_closed(caption, image, separator, where)
        yield Entry(image, caption, where)
    if wrong:
        raise _wrong_columns(path, wrong, names, separator)


def read_json_lines(path: Path) -> Iterator[Entry]:
    """The entries of a file with one JSON object a line, with `image` and `caption`. Raises DataError."""
    for number, line in enumerate(io.StringIO(read_text(path), newline=""), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        entry = parse_json(line, where)
        if not isinstance(entry, dict):
            raise DataError(f"{where}: expected an object with 'image' and 'caption', got {entry!r:.80}")
        image, caption = (checked_text(entry.get(column), column, where) for column in COLUMNS)
        yield Entry(image, caption, where)


def _rows(path: Path, text: str, separator: str | None = None) -> Iterator[_Row]:
    """Rows that are not blank. Without a separator, only the header, as one field."""
    lines = io.StringIO(text, newline="")  # a caption may contain line separators other than \r and \n
    if separator is None:
        for number, line in enumerate(lines, 1):
            if line.strip() and not _excel_hint(line, number):
                yield _Row(number, [line.rstrip("\r\n")])
                return
        return
    limit = csv.field_size_limit(max(len(text), 1))  # a field may be as long as the file
    try:
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        first = 1
        for fields in reader:
            if any(field.strip() for field in fields) and not _excel_hint(separator.join(fields), first):
                yield _Row(first, fields)
            first = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {first}: the quotes do not match ({error}); close them, and write one inside quotes twice"
        ) from error
    finally:
        csv.field_size_limit(limit)


def _excel_hint(line: str, number: int) -> bool:
    """True where a line tells Excel the separator, as in "sep=;"."""
    return number == 1 and line.strip().lower().removeprefix("sep=") in ("", *SEPARATORS)


def _columns(path: Path, header: _Row) -> tuple[list[str], str]:
    """Names of the columns, in lower case and stripped, and their separator."""
    line = header.fields[0]
    for separator in SEPARATORS:
        try:
            found = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
        except csv.Error:
            continue
        names = [name.strip().lower() for name in found]
        if set(COLUMNS) <= set(names):
            twice = sorted({name for name in names if name and names.count(name) > 1})
            if twice:
                raise DataError(f"{path}, line {header.line}: the column {twice[0]!r} is there twice; rename one")
            return names, separator
    separator = max(SEPARATORS, key=line.count)
    names = [name.strip() for name in line.split(separator)]
    raise DataError(
        f"{path}, line {header.line}: expected the columns 'image' and 'caption', got "
        f"{', '.join(f'{name!r:.80}' for name in names[:8])}, separated by {SEPARATORS[separator]}"
    )


def _check_closed(caption: str, image: str, separator: str, where: str) -> None:
    """Raise DataError for an unclosed quote, which would swallow the entries after it."""
    for line in _LINE_END.split(caption)[1:]:
        name, found, _ = line.partition(separator)
        if found and Path(name.strip()).suffix == Path(image).suffix != "":
            raise DataError(f"{where}: the quote that opens there swallows the entry of {name.strip()!r}; close it")


def _wrong_columns(path: Path, wrong: list[_Row], names: list[str], separator: str) -> DataError:
    first = wrong[0]
    more = "" if len(wrong) == 1 else f" ({len(wrong)} such lines)"
    advice = ""
    if len(first.fields) > len(names):
        advice = f"; put a text that holds {SEPARATORS[separator]} in double quotes"
    return DataError(
        f"{path}, line {first.line}: {_columns_of(len(first.fields))}, the first line names {len(names)} "
        f"({', '.join(names)}): {separator.join(first.fields)!r:.120}{more}{advice}"
    )


def _columns_of(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _line_of(before: str) -> int:
    """Number of the line on which the text after `before` begins."""
    return len(_LINE_END.findall(before)) + 1


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
