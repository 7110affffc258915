"""Timings: percentiles by nearest rank, and intervals of ratios that hold what they should."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import FEW_ROUNDS, Timing, compare, in_few_rounds, in_turn


def test_percentiles_are_times_that_were_measured() -> None:
    found = Timing(tuple(float(value) for value in range(100, 0, -1)))
    assert [found.percentile_ms(percent) for percent in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert found.median_ms == 50.5
    assert Timing((3.0,)).percentile_ms(99) == 3.0
    assert Timing((1.0, 2.0)).percentile_ms(95) == 2.0


def test_throughput_is_calls_over_their_time() -> None:
    assert Timing((10.0, 30.0)).per_second == pytest.approx(50.0)


def test_contenders_take_turns_and_warm_up_unmeasured() -> None:
    calls: list[str] = []
    found = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(one.rounds_ms) for name, one in found.items()} == {"a": 3, "b": 3}


def test_a_long_round_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LONG_ROUND_MS", 50)
    calls: list[str] = []

    def call(name: str, seconds: float) -> None:
        calls.append(name)
        time.sleep(seconds)

    quick, slow = partial(call, "quick", 0), partial(call, "slow", 0.06)
    assert len(in_few_rounds({"quick": quick})["quick"].rounds_ms) == FEW_ROUNDS
    assert len(calls) == 1 + FEW_ROUNDS, "a warm-up, then the rounds"
    calls.clear()
    assert [len(found.rounds_ms) for found in in_few_rounds({"quick": quick, "slow": slow}).values()] == [1, 1]
    assert calls == ["quick", "slow"] * 2
    calls.clear()
    in_few_rounds({"slow": slow}, warm_up=0)
    assert calls == ["slow"]


def test_a_constant_ratio_has_no_width_even_where_the_machine_wavers() -> None:
    fast = Timing(tuple(np.random.default_rng(0).uniform(1, 10, 9)))
    found = compare(Timing(tuple(3 * value for value in fast.rounds_ms)), fast)
    assert found == pytest.approx((3.0, 3.0, 3.0))


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        slow, fast = (Timing(tuple(scale * generator.lognormal(0, 0.2, 15))) for scale in (2.0, 1.0))
        low, high = compare(slow, fast)[1:]
        held += low <= 2.0 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_the_interval_is_the_same_in_every_run() -> None:
    slow, fast = Timing((4.0, 5.0, 9.0)), Timing((1.0, 2.0, 2.5))
    assert compare(slow, fast) == compare(slow, fast)
    assert compare(slow, fast).median == 3.6
    assert compare(slow, fast).low < compare(slow, fast).high
