"""Results of a part of the command: tables of our figures against theirs, and curves over a quantity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.blocks import Block, Lines, Table, number
from benchmarks.timing import Timing, compare

FASTER = {"ms": "times faster", "MiB": "times smaller"}
"""Unit of a table -> header of its ratios."""

FEWEST_ROUNDS = 3
"""Fewest rounds for an interval and a percentile."""


@dataclass(frozen=True)
class Row:
    """One task with our figure and theirs, medians of the rounds."""

    what: str
    ours: float
    theirs: float | None = None
    """Their figure; None where they have no such step or there is no other contender."""
    our_name: str = ""
    their_name: str = ""
    ratio: float | None = None
    """Theirs divided by ours: the median of the rounds' ratios."""
    low: float | None = None
    high: float | None = None
    """Ends of the ratio's 95% interval."""
    p95: float | None = None
    """Time within which 95% of our rounds ended."""
    rounds: int = 1
    floor: float | None = None
    """Least time that the matrix products take on this machine."""
    steps: Mapping[str, float] = field(default_factory=dict)
    """Steps of our figure."""
    note: str = ""

    @classmethod
    def of(cls, what: str, timings: Mapping[str, Timing], ours: str, theirs: str | None = None, **more: Any) -> Row:
        """The row of two contenders timed in turn."""
        ours_timing = timings[ours]
        rounds = len(ours_timing.rounds_ms)
        row: dict[str, Any] = {"rounds": rounds, **more}
        if rounds >= FEWEST_ROUNDS:
            row["p95"] = ours_timing.percentile_ms(95)
        if theirs is not None:
            ratio = compare(timings[theirs], ours_timing)
            row |= {"theirs": timings[theirs].median_ms, "ratio": ratio.median}
            if rounds >= FEWEST_ROUNDS:
                row |= {"low": ratio.low, "high": ratio.high}
        return cls(what, ours_timing.median_ms, **row)


@dataclass(frozen=True)
class Comparison:
    """Rows of one unit."""

    title: str
    rows: tuple[Row, ...]
    unit: str = "ms"
    note: str = ""

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Comparison:
        """The rows of a result file."""
        return cls(**{**content, "rows": tuple(Row(**row) for row in content["rows"])})

    def blocks(self) -> list[Block]:
        """The rows and the note. Empty columns are left out."""
        rows = self.rows
        columns = {
            "": [row.what for row in rows],
            **self._side("theirs", [row.their_name for row in rows], [row.theirs for row in rows]),
            **self._side("ours", [row.our_name for row in rows], [row.ours for row in rows]),
            "p95": [number(row.p95) for row in rows],
            FASTER[self.unit]: ["" if row.ratio is None else f"{row.ratio:.2f}x" for row in rows],
            "95% interval": ["" if row.low is None else f"{row.low:.2f} to {row.high:.2f}" for row in rows],
            "note": [row.note for row in rows],
        }
        filled = {header: cells for header, cells in columns.items() if any(cells)}
        _, *headers = filled
        table = Table((self.title, *headers), list(zip(*filled.values(), strict=True)))
        return [table, self.note] if self.note else [table]

    def _side(self, side: str, names: list[str], values: list[float | None]) -> dict[str, list[str]]:
        """The column of a side, headed by its name. With several names it comes with a column of names."""
        cells = [number(value) for value in values]
        different = set(filter(None, names))
        if len(different) > 1:
            return {side: names, f"{side}, {self.unit}": cells}
        return {", ".join([*different, self.unit]): cells}


@dataclass(frozen=True)
class Sweep:
    """Median times over one quantity."""

    quantity: str
    unit: str
    values: tuple[int | str, ...]
    rounds: tuple[int, ...]
    """Number of rounds of each value's median."""
    series: Mapping[str, tuple[float | None, ...]]
    """Contender -> a time for each value; None where it was not measured."""

    def blocks(self) -> list[Block]:
        """The curves."""
        rounds = ", ".join(map(str, self.rounds))
        caption = f"Over {self.quantity}, {self.unit}; medians of {rounds} rounds"
        return [Lines(caption, tuple(map(str, self.values)), self.series)]
