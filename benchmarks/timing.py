"""Timing that holds on a noisy machine: contenders in turn, medians, ratios round by round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one contender over the rounds."""

    rounds_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The figure to quote."""
        return statistics.median(self.rounds_ms)


def in_turn(contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, Timing]:
    """Time callables A B A B ..., so that a change of the machine's speed meets all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            if number >= warm_up:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: Timing(tuple(values)) for name, values in times.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """Median over rounds of slow / fast: how many times faster."""
    return statistics.median(a / b for a, b in zip(slow.rounds_ms, fast.rounds_ms, strict=True))
