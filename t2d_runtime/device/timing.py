"""Timing that is sound on a noisy machine: contenders take turns, and percentiles are over the rounds."""

from __future__ import annotations

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
        import statistics  # with fractions and decimals, which no start of an application needs

        return statistics.median(self.rounds_ms)

    @property
    def per_second(self) -> float:
        """Throughput: calls a second, one after the other."""
        return 1e3 * len(self.rounds_ms) / sum(self.rounds_ms)

    def percentile_ms(self, percent: int) -> float:
        """Time within which this share of the calls ended (nearest rank). Below 100 rounds, p99 is the longest."""
        rank = -(-percent * len(self.rounds_ms) // 100)
        return sorted(self.rounds_ms)[max(rank, 1) - 1]


def in_turn(contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, Timing]:
    """Time callables A B A B ..., so that a change of the machine's speed affects all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            if number >= warm_up:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: Timing(tuple(values)) for name, values in times.items()}
