"""Timings: percentiles by nearest rank, and intervals of ratios that hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.timing import Timing, compare, in_turn, ratio


def test_percentiles_are_times_that_were_measured() -> None:
    timing = Timing(tuple(float(value) for value in range(100, 0, -1)))
    assert [timing.percentile_ms(percent) for percent in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert timing.median_ms == 50.5
    assert Timing((3.0,)).percentile_ms(99) == 3.0
    assert Timing((1.0, 2.0)).percentile_ms(95) == 2.0


def test_throughput_is_calls_over_their_time() -> None:
    assert Timing((10.0, 30.0)).per_second == pytest.approx(50.0)


def test_contenders_take_turns_and_warm_up_unmeasured() -> None:
    calls: list[str] = []
    timings = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(timing.rounds_ms) for name, timing in timings.items()} == {"a": 3, "b": 3}


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
    assert compare(slow, fast).median == ratio(slow, fast)
    assert compare(slow, fast).low < compare(slow, fast).high
