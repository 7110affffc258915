"""Reads classes from text: a command's option, a file with one class a line, or JSON.

A line of a file holds the phrases of one class, separated by semicolons; the first is its name. `# ` begins a comment
and `- ` a negative. ` @0.57` at the end is the class's threshold, 0 to 1. A character after a backslash means nothing
special.
"""

from __future__ import annotations

import html
import json
import logging
import math
import re
from collections.abc import Callable
from html.entities import html5
from pathlib import Path
from typing import Any

from t2d_runtime.errors import ClassNamesError, OptionError
from t2d_runtime.storage.own_files import GENERATOR_KEY
from t2d_runtime.storage.reading import read_text_file
from t2d_runtime.words.class_list import ClassList, checked_classes
from t2d_runtime.words.text import shortened

logger = logging.getLogger(__name__)

JSON_KEYS = (GENERATOR_KEY, "classes", "negatives", "thresholds")
"""Keys of a JSON object that holds more than names and their phrases."""

_ESCAPED = re.compile(r"\\(.)")
_ENTITY = re.compile(r"&#?\w+;")
_THRESHOLD = re.compile(r"\s@\s*(\S*)\s*$")
_COMMENT = re.compile(r"(^|\s)#(\s.*|$)")
_FULL_STOPS = re.compile(r"\S\s+\.(\s|$)|\S\.\s.*\.$")
"""Between words, as in "sky . sea" and "sky. sea."; the one of "St. Bernard" is none."""

_NUMBERED = re.compile(r"\d+\s*[:.)=]\s*\S")

_QUOTED = re.compile(r"(?P<quote>[\"'`])[^\"'`]+(?P=quote)|“[^”]+”|‘[^’]+’|«[^»]+»")
"""A word in quotation marks, which would be read as part of it."""

_OTHER_SEPARATORS = {
    ";": "semicolons",
    "，": "full-width commas",
    "、": "ideographic commas",
    "；": "full-width semicolons",
    "؛": "Arabic semicolons",
    "،": "Arabic commas",
    "|": "bars",
    "\n": "line ends",
    "\t": "tabs",
}
"""Characters that people type between words instead of a comma."""


def parse_words(text: str) -> ClassList:
    """Classes of one line: words separated by commas, with an optional comma at the end, or JSON.

    The JSON has the forms that `encode_classes` takes. A character after a backslash has no special meaning. Raises
    ClassNamesError, also where words seem to be separated by something else.
    """
    text = text.strip()
    if text[:1] in ("[", "{"):
        return _from_json(text, "the classes")
    _check_escapes(text, "the classes")
    kept = _hide_escaped(text)
    for sign, name in _OTHER_SEPARATORS.items():
        if sign in kept:
            raise ClassNamesError(
                f"the classes {shortened(text, 200)!r} hold {name}; separate words by commas: "
                f"{_suggestion(kept.split(sign))}. Several phrases for a class go into a file, one class a line; a "
                "backslash takes the sign as it is"
            )
    if _FULL_STOPS.search(kept):
        words = re.split(r"\s*\.(?:\s+|$)", kept)
        raise ClassNamesError(
            f"the classes {shortened(text, 200)!r} hold full stops; separate words by commas: {_suggestion(words)}"
        )
    parts = re.sub(r",\s*$", "", kept).split(",")
    if all(_QUOTED.fullmatch(part.strip()) for part in parts):
        words = [part.strip()[1:-1] for part in parts]
        raise ClassNamesError(
            f"the classes {shortened(text, 200)!r} are in quotation marks, which would be part of them; leave "
            f"the marks out: {_suggestion(words)}"
        )
    return checked_classes([_shown(part).strip() for part in parts])


def read_class_file(path: Path) -> ClassList:
    """Classes of a UTF-8 text file, or of a JSON file. Raises ClassNamesError with the file's name and the line."""
    text = read_text_file(path, "a UTF-8 text file, one class a line", ClassNamesError)
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{"):
        return _from_json(text, str(path))
    if path.suffix.lower() in (".yaml", ".yml"):
        raise ClassNamesError(f"{path} is YAML; expected a text file, one class a line, or JSON")
    return classes_of_text(str(path), text)


def classes_of_text(where: str, text: str) -> ClassList:
    """Classes of a text, one a line. Raises ClassNamesError and OptionError, which begin with `where`."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if _content(line)]
    for number, line in lines:
        _check_escapes(line, f"{where}, line {number}")
    _check_commas(where, [_content(line) for _, line in lines])
    _check_columns(where, [_content(line) for _, line in lines])
    phrases: dict[str, list[str]] = {}
    negatives: list[str] = []
    thresholds: dict[str, float] = {}
    for number, line in lines:
        content = _content(line)
        if re.match(r"-(?!\s)", content):
            raise ClassNamesError(
                f"{where}, line {number}: {line!r} begins with '-' and no space; write '- ' before a negative, or "
                "'\\-' for a name that begins with it"
            )
        found = _THRESHOLD.search(content)
        if content.startswith("-"):
            if found:
                raise ClassNamesError(f"{where}, line {number}: {line!r} is a negative, which has no threshold")
            negatives += _split(content[1:], ";")
            continue
        names = _split(content[: found.start()] if found else content, ";")
        if not names:
            raise ClassNamesError(f"{where}, line {number}: {line!r} names no class; expected a word")
        if names[0] in phrases:
            raise ClassNamesError(f"{where}, line {number}: the class {names[0]!r} is given twice; give it once")
        phrases[names[0]] = names
        if found:
            thresholds[names[0]] = _threshold_of(found[1], where, number)
    if negatives and not phrases:
        raise ClassNamesError(f"{where} names no class: '- ' begins a negative; write classes without it, one a line")
    return _told(where, lambda: checked_classes(phrases, negatives, thresholds))


def _from_json(text: str, where: str) -> ClassList:
    """A list of names, an object name -> phrases, or an object with "classes" and, besides, JSON_KEYS."""
    try:
        given: Any = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ClassNamesError(
            f'{where}: not JSON ({error}); expected ["sky", "sea"] or {{"person": ["man", "woman"]}}'
        ) from error
    if isinstance(given, dict) and "classes" in given and set(given) <= set(JSON_KEYS):
        return _told(
            where,
            lambda: checked_classes(given["classes"], given.get("negatives", ()), given.get("thresholds")),
        )
    return _told(where, lambda: checked_classes(given))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


def _told(where: str, make: Callable[[], ClassList]) -> ClassList:
    try:
        return make()
    except (ClassNamesError, OptionError) as error:
        raise type(error)(f"{where}: {error}") from error


def _check_commas(where: str, lines: list[str]) -> None:
    """Raises an error where commas seem to separate the classes of a file; warns of a comma within a name."""
    with_comma = [line for line in lines if "," in _hide_escaped(_THRESHOLD.sub("", line))]
    if with_comma and (len(lines) == 1 or all(line.endswith(",") for line in lines[:-1])):
        raise ClassNamesError(
            f"{where} separates classes by commas, as in {with_comma[0]!r}; put one class a line and no comma, or "
            "write \\, for a comma that belongs to a name"
        )
    if with_comma:
        logger.warning("%s: %r is one class with a comma in its name; put one class a line", where, with_comma[0])


def _check_columns(where: str, lines: list[str]) -> None:
    """Raises ClassNamesError for a table, numbered lines and quoted words: what is not the name would be read too."""
    bare = [re.sub(r"\s*;\s*", ";", _THRESHOLD.sub("", line)) for line in lines]
    tabs = next((line for line, rest in zip(lines, bare, strict=True) if "\t" in rest), None)
    if tabs is not None:
        raise ClassNamesError(f"{where} separates columns by tabs, as in {tabs!r}; keep the names alone, one a line")
    if len(lines) > 1 and all(_NUMBERED.match(line) for line in lines):
        raise ClassNamesError(f"{where} numbers its lines, as in {lines[0]!r}; keep the names alone, one a line")
    if lines and all(_QUOTED.fullmatch(line) for line in lines):
        raise ClassNamesError(
            f"{where} has its classes in quotation marks, as in {lines[0]}, which would be part of "
            "them; leave the marks out"
        )


def _check_escapes(text: str, where: str) -> None:
    """Raises ClassNamesError where a backslash stands before a letter: as in \\n, which is no line end here."""
    for sign in _ESCAPED.findall(text):
        if sign.isalnum():
            raise ClassNamesError(
                f"{where}: a backslash stands before {sign!r}; it takes a sign such as a comma as it is, and words "
                "stand between commas or on lines of their own"
            )


def _content(line: str) -> str:
    """The line without its comment and the space around it."""
    return _shown(_COMMENT.sub("", _hide_escaped(line.strip())), unescape=False).strip()


def _split(text: str, separator: str) -> list[str]:
    parts = (_shown(part).strip() for part in _hide_escaped(text).split(separator))
    return [part for part in parts if part]


_HIDDEN = 0xE000
"""Start of Unicode's private area, where escaped characters are hidden while a line is split."""


def _hide_escaped(text: str) -> str:
    """Hide escaped characters, and the semicolon of an HTML entity, which CLIP reads as one character."""
    escaped = _ESCAPED.sub(lambda match: chr(_HIDDEN + ord(match[1])) if ord(match[1]) < 128 else match[0], text)
    return _ENTITY.sub(_hide_end_of_entity, escaped)


def _hide_end_of_entity(match: re.Match[str]) -> str:
    """An HTML entity with its semicolon hidden; other text as it is, such as "&D;" in "R&D; laboratory"."""
    found = match[0]
    known = found[1:] in html5 or (found[1] == "#" and html.unescape(found) != found)
    return found[:-1] + chr(_HIDDEN + ord(";")) if known else found


def _shown(text: str, *, unescape: bool = True) -> str:
    prefix = "" if unescape else "\\"
    return re.sub("[\ue000-\ue07f]", lambda match: prefix + chr(ord(match[0]) - _HIDDEN), text)


def _suggestion(words: list[str]) -> str:
    """The words as they should be written, on one line."""
    shown = (" ".join(_shown(word).split()) for word in words)
    return shortened(",".join(word for word in shown if word), 200)


def _threshold_of(text: str, where: str, number: int) -> float:
    try:
        threshold = float(_shown(text))
    except ValueError:
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise ClassNamesError(
            f"{where}, line {number}: the threshold is {_shown(text)!r}, expected a number from 0 to 1, such as 0.57; "
            "write '\\@' for a name that holds the sign"
        )
    return threshold
