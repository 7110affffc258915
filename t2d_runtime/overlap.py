"""Stages that run at the same time on different items: while one image is encoded, the next is read."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from queue import SimpleQueue
from typing import Any

IN_FLIGHT = 4
"""Items in work at a time, to bound memory: one for each of four stages."""


def overlapped(
    items: Iterable[Any], stages: Sequence[Callable[[Any], Any]], in_flight: int = IN_FLIGHT
) -> Generator[Future[Any], None, None]:
    """Run each item through all stages; yields finished futures in the order of the items, as they are ready.

    A stage has one thread and takes items in order. A future holds the last stage's result, or the error of a stage for
    this item. A separate thread draws items as there is room, so a finished result never waits for the next item. An
    error of the iterable itself is raised after the results of the items before it. Closing the iterator drops stages
    that have not begun and waits for those that have, but not for an item being drawn, which may take for ever.
    """
    pools = [ThreadPoolExecutor(1) for _ in stages]
    drawing = _Drawing(items, lambda item: _submit(item, stages, pools), in_flight)
    # Not a thread of a pool: Python waits for those when it exits.
    threading.Thread(target=drawing.draw, daemon=True).start()
    try:
        while (future := drawing.drawn.get()) is not drawing.end:
            wait([future])
            yield future
            del future  # frees its result before the next one
            drawing.room.release()
        drawing.end.result()
    finally:
        drawing.stop()
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown()


def overlapped_by_name(
    items: Iterable[tuple[str, Any]], stages: Sequence[Callable[[Any], Any]]
) -> Generator[tuple[str, Future[Any]], None, None]:
    """Run named items through all stages as `overlapped`; yields each name with its finished future."""
    names: deque[str] = deque()  # of the few items in work

    def noted() -> Iterator[Any]:
        for name, item in items:
            names.append(name)
            yield item

    with closing(overlapped(noted(), stages)) as results:
        for done in results:
            yield names.popleft(), done


class _Drawing:
    """A thread that draws items and submits them to the stages, while there is room for another."""

    def __init__(self, items: Iterable[Any], begin: Callable[[Any], Future[Any]], room: int) -> None:
        self._items = items
        self._begin = begin
        self._stopped = threading.Event()
        self.room = threading.Semaphore(room)
        self.drawn: SimpleQueue[Future[Any]] = SimpleQueue()
        self.end: Future[None] = Future()
        """Done after the last item; holds the error of the iterable, if it raised one."""

    def draw(self) -> None:
        """Draw items until they end or `stop` is called."""
        try:
            iterator = iter(self._items)
            while self.room.acquire() and not self._stopped.is_set():
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                if not self._stopped.is_set():
                    self.drawn.put(self._begin(item))
                del item  # frees it while the next one is drawn
            self.end.set_result(None)
        except BaseException as error:  # noqa: BLE001  raised where the results are taken
            self.end.set_exception(error)
        self.drawn.put(self.end)

    def stop(self) -> None:
        """Draw no more."""
        self._stopped.set()
        self.room.release()


def _submit(item: Any, stages: Sequence[Callable[[Any], Any]], pools: Sequence[ThreadPoolExecutor]) -> Future[Any]:
    """Hand an item to all stages at once; each waits for the one before it."""
    future: Future[Any] = Future()
    future.set_result(item)
    for stage, pool in zip(stages, pools, strict=True):
        future = pool.submit(_run, stage, future)
    return future


def _run(stage: Callable[[Any], Any], before: Future[Any]) -> Any:
    return stage(before.result())
