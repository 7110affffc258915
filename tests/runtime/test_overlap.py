"""Stages at the same time: order, bounds, errors in their place, and an early end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from t2d_runtime.overlap import overlapped


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_for_even(item: int) -> int:
        time.sleep(0.002 * (item % 2))
        return item * 10

    results = overlapped(range(20), (slow_for_even, lambda item: item + 1))
    assert [future.result() for future in results] == [item * 10 + 1 for item in range(20)]


def test_nothing_gives_nothing() -> None:
    assert list(overlapped([], (str,))) == []


@pytest.mark.parametrize("in_flight", [1, 3])
def test_few_items_are_drawn_before_results_are_taken(in_flight: int) -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for item in range(50):
            drawn += 1
            yield item

    for taken, future in enumerate(overlapped(items(), (str, int), in_flight)):
        assert future.result() == taken
        time.sleep(0.002)
        assert drawn <= taken + in_flight


def test_stages_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=120)

    def first(item: int) -> int:
        if item == 1:
            meeting.wait()
        return item

    def second(item: int) -> int:
        if item == 0:
            meeting.wait()
        return item

    assert [future.result() for future in overlapped(range(2), (first, second))] == [0, 1]


def test_an_error_is_that_of_its_item_alone() -> None:
    def fail_at_two(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    outcomes = [future.exception() or future.result() for future in overlapped(range(5), (fail_at_two, abs))]
    assert isinstance(outcomes.pop(2), ValueError)
    assert outcomes == [0, 1, 3, 4]


def test_closing_drops_what_has_not_begun_and_ends_the_threads() -> None:
    before, begun = set(threading.enumerate()), []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.05)
        return item

    results = overlapped(range(100), (work,), in_flight=8)
    assert next(results).result() == 0
    results.close()
    assert len(begun) <= 3
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=120)
        assert not thread.is_alive()


def test_a_result_does_not_wait_for_the_next_item() -> None:
    """A camera with a picture a minute: the first one's mask must not be a minute late."""
    taken = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        yield 1 if taken.wait(timeout=120) else 99

    def slow(item: int) -> int:
        time.sleep(0.02)
        return item

    results = overlapped(items(), (slow, abs))
    assert next(results).result() == 0
    taken.set()
    assert [future.result() for future in results] == [1]


def test_what_the_items_raise_is_raised_after_the_results_before() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the camera is gone")

    results = overlapped(items(), (abs,), in_flight=8)
    assert [next(results).result() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the camera is gone"):
        next(results)
    with pytest.raises(TypeError, match="not iterable"):
        next(overlapped(3, ()))  # type: ignore[arg-type]


def test_closing_does_not_wait_for_an_item_that_never_comes() -> None:
    asked, come = threading.Event(), threading.Event()
    drawn = []

    def items() -> Iterator[int]:
        for item in range(9):
            if item == 2:
                asked.set()
                come.wait(timeout=120)
            drawn.append(item)
            yield item

    results = overlapped(items(), (abs,), in_flight=8)
    assert next(results).result() == 0
    assert asked.wait(timeout=120)
    before = time.perf_counter()
    results.close()
    assert time.perf_counter() - before < 5
    come.set()
    time.sleep(0.05)
    assert drawn == [0, 1, 2]
