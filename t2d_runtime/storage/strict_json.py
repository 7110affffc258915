"""Parsed JSON -> frozen dataclasses, strictly: every key known, present and of its type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from t2d_runtime.errors import T2DError

T = TypeVar("T")


def parse_json(cls: type[T], value: object, where: str, error: type[T2DError]) -> T:
    """Build a dataclass from parsed JSON. Fields with a default may be absent.

    Fields may be int, float, str, bool, Literal, X | None, tuples, mappings by name, and dataclasses of these.
    Raises `error`, which names the place (`where` is a file) and the expected type.
    """
    if not isinstance(value, dict):
        raise error(f"{where} is {value!r:.60}, expected an object")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    missing, unknown = sorted(required - value.keys()), sorted(value.keys() - fields.keys())
    if missing or unknown:
        raise error(f"{where}: missing keys {missing}, unknown keys {unknown}")
    return cls(**{name: _parse(hints[name], item, f"{where}: {name}", error) for name, item in value.items()})


def _parse(expected: Any, value: object, where: str, error: type[T2DError]) -> Any:
    if dataclasses.is_dataclass(expected):
        return parse_json(typing.cast("type[Any]", expected), value, where, error)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (expected,) = (argument for argument in arguments if argument is not type(None))
        return _parse(expected, value, where, error)
    if origin is Literal:
        if value in arguments:
            return value
        raise error(f"{where} is {value!r:.60}, expected one of {list(arguments)}")
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise error(f"{where} has {len(value)} entries, expected {len(kinds)}")
        items = zip(kinds, value, strict=True)
        return tuple(_parse(kind, item, f"{where}[{i}]", error) for i, (kind, item) in enumerate(items))
    if origin is Mapping and isinstance(value, dict):
        return {key: _parse(arguments[1], item, f"{where}.{key}", error) for key, item in value.items()}
    if expected is float and type(value) is int:
        return float(value)
    if isinstance(expected, type) and type(value) is expected:
        return value
    raise error(f"{where} is {value!r:.60}, expected {getattr(expected, '__name__', expected)}")
