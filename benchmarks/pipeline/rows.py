"""One row of the table: a measured figure, the bar it has to clear, and what was compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.timing import Timing, ratio


@dataclass(frozen=True)
class Row:
    """A figure; `value` is None where this machine cannot give it, and `note` says why."""

    what: str
    value: float | None
    unit: str
    """"x" is a ratio; others are "ms", "MiB", "GiB", "pixels", "share", "images/s" and "TFLOP/s"."""
    bar: float | None = None
    """None for a figure that is printed for information."""
    aim: float | None = None
    at_most: bool = False
    """Whether the bar is an upper limit."""
    note: str = ""
    medians_ms: Mapping[str, float] = field(default_factory=dict)
    """Of every contender."""
    rounds: int = 1

    @property
    def reached(self) -> bool | None:
        """Whether the figure clears its bar; None where there is none, or no figure."""
        if self.value is None or self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def faster(
    what: str,
    timings: Mapping[str, Timing],
    slow: str,
    fast: str,
    *,
    bar: float | None = None,
    aim: float | None = None,
    note: str = "",
) -> Row:
    """How many times faster one contender is than another, round by round."""
    value = ratio(timings[slow], timings[fast])
    return Row(what, value, "x", bar, aim, False, note, medians(timings), len(timings[slow].rounds_ms))


def medians(timings: Mapping[str, Timing]) -> dict[str, float]:
    """Median ms of every contender."""
    return {name: timing.median_ms for name, timing in timings.items()}


def fastest(timings: Mapping[str, Timing], names: list[str]) -> str:
    """The contender with the least median."""
    return min(names, key=lambda name: timings[name].median_ms)
