"""Finds the files that an ONNX graph takes its weights from, without onnx: a walk through its protobuf messages.

An engine opens these files by the names in the graph. A graph from elsewhere must not name one outside its folder.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from t2d_runtime.errors import BundleError

_FIELDS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
"""Message -> its fields that may lead to external data (onnx.proto3)."""

_DEEPEST = 64
"""Graphs inside graphs that are followed; an exporter makes a few."""


def external_files(graph: Path) -> set[str]:
    """Names of the files that a graph's weights are in, as the graph spells them.

    Raises BundleError where the file is no protobuf message.
    """
    if graph.stat().st_size == 0:
        raise BundleError(f"{graph} is empty, expected an ONNX graph")
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return set(_locations(content, 0, len(content), "ModelProto", 0))
        except (IndexError, UnicodeDecodeError, ValueError) as error:
            raise BundleError(f"{graph} is no ONNX graph ({error})") from error


def _locations(content: mmap.mmap, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError(f"messages more than {_DEEPEST} deep")
    inside = _FIELDS[message]
    for number, first, last in _fields(content, start, end):
        kind = inside.get(number)
        if kind == "StringStringEntryProto":
            entry = {key: content[a:b].decode() for key, a, b in _fields(content, first, last)}
            if entry.get(1) == "location":
                yield entry.get(2, "")
        elif kind is not None:
            yield from _locations(content, first, last, kind, depth + 1)


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message that has a length; numbers are passed over."""
    while start < end:
        tag, start = _varint(content, start, end)
        kind = tag & 7
        if kind == 2:
            length, start = _varint(content, start, end)
            if start + length > end:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, start, start + length
            start += length
        elif kind == 0:
            _, start = _varint(content, start, end)
        elif kind in (1, 5):
            start += 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
    if start != end:
        raise ValueError("a message ends inside a field")


def _varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if start >= end:
            raise ValueError("a message ends inside a number")
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("a number is longer than 64 bits")
