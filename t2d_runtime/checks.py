"""Checks of numbers and flags that callers give."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from t2d_runtime.errors import OptionError


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """True for a whole number from `least`, NumPy's included. A bool is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def is_number(value: object, most: float, *, above: float | None = None) -> TypeGuard[float]:
    """True for a real number from 0, or above `above`, up to `most`, NumPy's included. A bool is none, nor is NaN."""
    if isinstance(value, bool) or not isinstance(value, float | int | np.floating | np.integer):
        return False
    return bool((value >= 0 if above is None else value > above) and value <= most)


def checked_number(name: str, value: object, most: float, *, above: float | None = None) -> float:
    """The number as a float. Raises OptionError where `is_number` is false."""
    if not is_number(value, most, above=above):
        expected = f"from 0 to {most:g}" if above is None else f"above {above:g} and up to {most:g}"
        raise OptionError(f"{name} is {value!r:.80}, expected a number {expected}")
    return float(value)


def checked_flag(name: str, value: bool) -> bool:
    """The flag as a bool; NumPy's bools are accepted. Raises OptionError for any other value."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} is {value!r:.80}, expected True or False")
    return bool(value)
