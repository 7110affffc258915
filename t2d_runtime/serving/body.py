"""Reads a request's body and query into named values: multipart, JSON, URL-encoded, or a bare picture."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from t2d_runtime.serving.problems import HttpError

IMAGE = "image"

MOST_PARTS = 32
"""Most parts of a form. The service knows half as many names."""

LONGEST_TEXT = 100_000
"""Most characters of a value other than the picture. 200 phrases of 500 characters fit."""

_STRUCTURED = ("negatives", "prompts", "thresholds")
"""Values that are JSON in a text where they begin like it; otherwise plain text."""

_PLAIN = ("classes", "format", "window")
"""Values that stay text: their reader knows JSON itself, or they have none."""

EXPECTED = "expected multipart/form-data, application/json, application/x-www-form-urlencoded or the picture itself"


def values_of(content_type: str, body: bytes, query: bytes, known: Iterable[str]) -> dict[str, Any]:
    """Values by name, the picture's bytes as `image`. Query and body may both give some, but no name twice.

    Raises HttpError: 415 for another content type, 400 for a body that is not what its type says, 422 for unknown
    names.
    """
    texts = _query(query)
    kind, options = parse_options_header(content_type)
    if not body:
        given: dict[str, Any] = {}
    elif kind == b"multipart/form-data":
        given = _multipart(body, options.get(b"boundary"))
    elif kind == b"application/json":
        given = _json(body)
    elif kind == b"application/x-www-form-urlencoded":
        given = _typed(_query(body))
    elif kind.startswith(b"image/") or kind == b"application/octet-stream":
        given = {IMAGE: body}
    else:
        raise HttpError(415, f"the body is {kind.decode('latin-1')[:80] or 'of no type'}; {EXPECTED}")
    if twice := sorted(texts.keys() & given.keys()):
        raise HttpError(422, f"{twice} are given in the address and in the body; give each once")
    if IMAGE in texts:
        raise HttpError(422, "the picture belongs into the body; no URL is read")
    found = {**_typed(texts), **given}
    if unknown := sorted(found.keys() - set(known)):
        raise HttpError(422, f"unknown names {[name[:40] for name in unknown[:5]]}, expected some of {sorted(known)}")
    return found


def _query(text: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_PARTS, errors="strict", encoding="utf-8"
        )
    except ValueError as error:
        raise HttpError(400, f"the names and values cannot be read: {error}") from error
    return _unique((name, _checked_text(name, value)) for name, value in pairs)


def _multipart(body: bytes, boundary: bytes | None) -> dict[str, Any]:
    if not boundary:
        raise HttpError(400, "the multipart body's type names no boundary")
    collector = _Parts()
    try:
        parser = MultipartParser(boundary, collector.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise HttpError(400, "the multipart body is damaged, or ends before its last boundary") from error
    if not collector.ended:
        raise HttpError(400, "the multipart body ends before its last boundary")
    found = _unique(collector.parts)
    texts = {name: _decoded(name, value) for name, value in found.items() if name != IMAGE}
    image = {IMAGE: found[IMAGE]} if IMAGE in found else {}
    return {**_typed(texts), **image}


class _Parts:
    """Collects a form's parts as the parser reports them."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, bytes]] = []
        self.ended = False
        self._content = bytearray()
        self._header = bytearray()
        self._value = bytearray()
        self._name: str | None = None

    def callbacks(self) -> dict[str, Any]:
        """The parser's callbacks."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) >= MOST_PARTS:
            raise HttpError(400, f"the form has more than {MOST_PARTS} parts")
        self._content, self._name = bytearray(), None

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        if self._name is None:
            raise HttpError(400, "a part of the form has no name")
        self.parts.append((self._name, bytes(self._content)))

    def _finish(self) -> None:
        self.ended = True


def _json(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(given, dict):
        raise HttpError(422, 'the body is JSON, but no object; expected {"image": "...", "classes": ["sky", "sea"]}')
    for name, value in given.items():
        if isinstance(value, str) and name != IMAGE:
            _checked_text(name, value)
    found = {name: value for name, value in given.items() if value is not None}
    if IMAGE in found:
        found[IMAGE] = _from_base64(found[IMAGE])
    return found


def _from_base64(text: Any) -> bytes:
    problem = HttpError(422, "image is no base64; expected the bytes of a picture in base64, never a URL")
    if not isinstance(text, str):
        raise problem
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise problem from error


def _typed(texts: Mapping[str, str]) -> dict[str, Any]:
    """Values from their texts: flags, numbers and JSON as such, else the text, which its reader then refuses."""
    return {name: _value(name, text) for name, text in texts.items()}


def _value(name: str, text: str) -> Any:
    if name in _PLAIN or (name in _STRUCTURED and text.lstrip()[:1] not in ("[", "{")):
        return text
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return text if found is None else found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise HttpError(422, f"{name[:40]!r} is given twice; give it once")
        found[name] = value
    return found


def _decoded(name: str, value: bytes) -> str:
    try:
        return _checked_text(name, value.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise HttpError(422, f"{name[:40]!r} is not UTF-8 text") from error


def _checked_text(name: str, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise HttpError(422, f"{name[:40]!r} has {len(text)} characters, expected at most {LONGEST_TEXT}")
    return text
