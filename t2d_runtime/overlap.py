"""Stages that work at the same time, each on another item: while one image is encoded, the next is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

IN_FLIGHT = 4
"""Items in work at a time: one a stage where there are four. Bounds memory."""


def overlapped(
    items: Iterable[Any], stages: Sequence[Callable[[Any], Any]], in_flight: int = IN_FLIGHT
) -> Generator[Future[Any], None, None]:
    """Each item through all stages; finished futures in the order of the items.

    A stage has one thread and takes items in order. A future holds the last stage's result, or what a stage raised for
    this item alone. Items are drawn as there is room. What the iterable itself raises ends everything at once, and so
    does closing the iterator: what has not begun is dropped, what has is waited for.
    """
    pools = [ThreadPoolExecutor(1) for _ in stages]
    pending: deque[Future[Any]] = deque()
    try:
        for item in items:
            pending.append(_submit(item, stages, pools))
            while pending and (len(pending) >= in_flight or pending[0].done()):
                yield _finished(pending.popleft())
        while pending:
            yield _finished(pending.popleft())
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown()


def _submit(item: Any, stages: Sequence[Callable[[Any], Any]], pools: Sequence[ThreadPoolExecutor]) -> Future[Any]:
    """Hand an item to all stages at once: each waits for the one before."""
    future: Future[Any] = Future()
    future.set_result(item)
    for stage, pool in zip(stages, pools, strict=True):
        future = pool.submit(_run, stage, future)
    return future


def _run(stage: Callable[[Any], Any], before: Future[Any]) -> Any:
    return stage(before.result())


def _finished(future: Future[Any]) -> Future[Any]:
    wait([future])
    return future
