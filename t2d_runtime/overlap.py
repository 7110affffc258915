"""Stages that work at the same time, each on another item: while one image is encoded, the next is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

IN_FLIGHT = 4
"""Items in work at a time: one a stage where there are four. Bounds memory."""


def overlapped(
    items: Iterable[Any], stages: Sequence[Callable[[Any], Any]], in_flight: int = IN_FLIGHT
) -> Generator[Future[Any], None, None]:
    """Each item through all stages; finished futures in the order of the items, as they are ready.

    A stage has one thread and takes items in order. A future holds the last stage's result, or what a stage raised for
    this item alone. Items are drawn in a thread of their own, as there is room: nobody waits for the next item to have
    this one's result. What the iterable itself raises is raised after the results of the items before. Closing the
    iterator ends everything at once: what has not begun is dropped, what has is waited for, except for an item that is
    just being drawn, which may take for ever.
    """
    pools = [ThreadPoolExecutor(1) for _ in stages]
    drawing = _Drawing(items, lambda item: _submit(item, stages, pools), in_flight)
    # Not a pool's: Python waits for those when it exits.
    threading.Thread(target=drawing.draw, daemon=True).start()
    try:
        while (future := drawing.drawn.get()) is not drawing.end:
            wait([future])
            yield future
            del future  # not kept until the next one
            drawing.room.release()
        drawing.end.result()
    finally:
        drawing.stop()
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown()


class _Drawing:
    """Items drawn and begun with, while there is room for another."""

    def __init__(self, items: Iterable[Any], begin: Callable[[Any], Future[Any]], room: int) -> None:
        self._items = items
        self._begin = begin
        self._stopped = threading.Event()
        self.room = threading.Semaphore(room)
        self.drawn: SimpleQueue[Future[Any]] = SimpleQueue()
        self.end: Future[None] = Future()
        """After the last item; holds what the iterable raised."""

    def draw(self) -> None:
        """Until the items end, or `stop`."""
        try:
            iterator = iter(self._items)
            while self.room.acquire() and not self._stopped.is_set():
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                if not self._stopped.is_set():
                    self.drawn.put(self._begin(item))
                del item  # not kept while the next one is drawn
            self.end.set_result(None)
        except BaseException as error:  # noqa: BLE001  raised where the results are taken
            self.end.set_exception(error)
        self.drawn.put(self.end)

    def stop(self) -> None:
        """Draw no more."""
        self._stopped.set()
        self.room.release()


def _submit(item: Any, stages: Sequence[Callable[[Any], Any]], pools: Sequence[ThreadPoolExecutor]) -> Future[Any]:
    """Hand an item to all stages at once: each waits for the one before."""
    future: Future[Any] = Future()
    future.set_result(item)
    for stage, pool in zip(stages, pools, strict=True):
        future = pool.submit(_run, stage, future)
    return future


def _run(stage: Callable[[Any], Any], before: Future[Any]) -> Any:
    return stage(before.result())
