"""Ratios of timings with confidence intervals, and times of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from t2d_runtime.device.timing import Timing, in_turn

__all__ = ["Ratio", "Timing", "compare", "cuda_in_turn", "in_few_rounds", "in_turn"]

FEW_ROUNDS = 3
LONG_ROUND_MS = 5000.0
"""A longer round is not repeated, so that a whole sweep of ViT-B ends within two minutes."""

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0


class Ratio(NamedTuple):
    """A ratio of times, and its interval of nominally 95% confidence (see LOG.md)."""

    median: float
    low: float
    high: float


def compare(slow: Timing, fast: Timing) -> Ratio:
    """Median over rounds of slow / fast, with a bootstrap interval (Efron, 1979).

    Rounds are drawn with replacement, the same ones in every run. A round is drawn whole, since both contenders ran
    under the same load of the machine.
    """
    rounds = np.divide(slow.rounds_ms, fast.rounds_ms)
    drawn = np.random.default_rng(SEED).integers(len(rounds), size=(RESAMPLES, len(rounds)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.median(rounds[drawn], axis=1), (tail, 100 - tail))
    return Ratio(float(np.median(rounds)), float(low), float(high))


def in_few_rounds(contenders: Mapping[str, Callable[[], object]], warm_up: int = 1) -> dict[str, Timing]:
    """Time contenders by `in_turn` with FEW_ROUNDS, or a single round where that is long."""
    first = in_turn(contenders, 1, warm_up)
    if FEW_ROUNDS == 1 or sum(timing.median_ms for timing in first.values()) > LONG_ROUND_MS:
        return first
    more = in_turn(contenders, FEW_ROUNDS - 1, warm_up=0)
    return {name: Timing(timing.rounds_ms + more[name].rounds_ms) for name, timing in first.items()}


def cuda_in_turn(contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3) -> dict[str, Timing]:
    """`in_turn` for PyTorch on a GPU: the device's times between two CUDA events. It waits for each call."""
    import torch

    event: Any = torch.cuda.Event  # without annotations
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, call in contenders.items():
            start, end = (event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            if number >= warm_up:
                times[name].append(start.elapsed_time(end))
    return {name: Timing(tuple(values)) for name, values in times.items()}
