"""Ways in which files get damaged, drawn at random."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

LARGEST = 2**20
"""Bytes of a damaged file: copies of parts make it grow."""

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Where lengths and counts overflow."""

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**70, -(2**70), 0.5, -0.0, 1e308, float("nan"), float("inf"), "", " ",
    "x", "\0", "\ud800", "é" * 300, "../x", "/etc/passwd", "{}", [], [[]], {}, {"x": 1}, [None], [1, 2], "1", b"".hex(),
)  # fmt: skip


def damaged(content: bytes, rng: Random) -> bytes:
    """Some bytes after one to three accidents."""
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(_ACCIDENTS)(content, rng)[:LARGEST]
    return content


def spliced(first: bytes, second: bytes, rng: Random) -> bytes:
    """The beginning of one file and the end of another."""
    return first[: rng.randint(0, len(first))] + second[rng.randint(0, len(second)) :]


def damaged_json(value: Any, rng: Random) -> Any:
    """Parsed JSON with one to three of its values or keys exchanged, left out, or added."""
    for _ in range(rng.randint(1, 3)):
        place = value
        while isinstance(place, dict | list) and place:
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.15:
                _exchange(place, key, rng)
                break
            place = inner
    return value


def _exchange(place: Any, key: Any, rng: Random) -> None:
    fate = rng.random()
    if fate < 0.15:
        del place[key]
    elif fate < 0.25 and isinstance(place, dict):
        place[rng.choice(["", "x", "é", key + " ", key.upper()])] = place.pop(key)
    elif fate < 0.35 and isinstance(place[key], int | float) and not isinstance(place[key], bool):
        place[key] = place[key] * rng.choice([-1, 0, 2, 0.5, 1000, 10**30])
    else:
        place[key] = copy.deepcopy(rng.choice(_VALUES))


def _place(content: bytes, rng: Random) -> int:
    """Half of the accidents happen near the beginning, where the headers are."""
    return rng.randrange(max(1, min(len(content), 64) if rng.random() < 0.5 else len(content)))


def _flip_a_bit(content: bytes, rng: Random) -> bytes:
    if not content:
        return content
    place = _place(content, rng)
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _replace_a_byte(content: bytes, rng: Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.randbytes(1) + content[place + 1 :]


def _write_a_number(content: bytes, rng: Random) -> bytes:
    size = rng.choice([1, 2, 4, 8])
    number = rng.choice([*_NUMBERS, rng.randrange(len(content) + 2)]) & (1 << 8 * size) - 1
    place = _place(content, rng)
    return content[:place] + number.to_bytes(size, rng.choice(["little", "big"])) + content[place + size :]


def _cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _leave_out(content: bytes, rng: Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.randint(1, 64) :]


def _insert(content: bytes, rng: Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.choice([rng.randbytes, bytes])(rng.randint(1, 64)) + content[place:]


def _copy_a_part(content: bytes, rng: Random) -> bytes:
    start, place = _place(content, rng), _place(content, rng)
    return content[:place] + content[start : start + rng.randint(1, 256)] + content[place:]


_ACCIDENTS = (_flip_a_bit, _flip_a_bit, _replace_a_byte, _write_a_number, _write_a_number, _cut, _leave_out, _insert,
              _copy_a_part)  # fmt: skip
