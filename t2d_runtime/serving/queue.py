"""One bounded queue, and the stages that requests pass, each with threads of its own."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import ParamSpec, TypeVar

from starlette.types import Receive

from t2d_runtime.serving.limits import BESIDE_ENCODING, Limits
from t2d_runtime.serving.metrics import Metrics
from t2d_runtime.serving.problems import HttpError

P = ParamSpec("P")
T = TypeVar("T")

WORD_THREADS = 4
"""Threads for words. Known words do not wait for others' new words; those wait in the encoder itself."""

SLOW_S = 2.0
"""Time after which a request whose body is still coming gives its place up where another needs it."""

WEIGHT = 0.1
"""Weight of the newest request in the mean time of one."""


class ClientLeftError(Exception):
    """The client has closed its connection: nobody waits for the answer."""


class Turn:
    """One request's way through the queue. Used from one thread, but for `gone`."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline = asyncio.get_running_loop().time() + deadline_s
        self.deadline_s = deadline_s
        self.in_work = False
        self.times_ms: dict[str, float] = {}
        """Stage -> its time."""
        self.gone = threading.Event()
        """Set when nobody waits for the answer any more."""

    def progress(self, done: int, total: int) -> None:
        """Ends the encoding of words, which calls this, where nobody waits any more. Raises ClientLeftError."""
        if self.gone.is_set():
            raise ClientLeftError

    async def attended(self, work: Awaitable[T], receive: Receive) -> T:
        """The result of the work, which ends at the deadline, and where the client leaves.

        Raises HttpError: 503 for a request that still waits at its deadline, 504 for one in work; ClientLeftError.
        """
        task, left = asyncio.ensure_future(work), asyncio.create_task(_until_left(receive))
        try:
            remaining = self.deadline - asyncio.get_running_loop().time()
            await asyncio.wait({task, left}, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if left.done():
                raise ClientLeftError
            if self.in_work:
                raise HttpError(504, f"the picture was not segmented within {self.deadline_s:g} s; shrink it, or retry")
            raise HttpError(503, f"no turn came within {self.deadline_s:g} s; try again later", Retry_After="10")
        finally:
            self.gone.set()
            task.cancel()
            left.cancel()
            await asyncio.gather(task, left, return_exceptions=True)


class Place:
    """One request's place in the queue. Used from the event loop."""

    def __init__(self) -> None:
        self.given_up = False
        self._begun = 0.0
        self._reading: asyncio.Timeout | None = None

    @asynccontextmanager
    async def reading(self, most_s: float) -> AsyncIterator[None]:
        """Read the request's body within some time.

        Raises HttpError, 408, where it took longer, or 2 s and the place was needed.
        """
        self._begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(most_s) as self._reading:
                yield
        except TimeoutError as error:
            detail = f"the request's body did not come within {most_s:g} s"
            if self.given_up:
                detail = f"the request's body did not come within {SLOW_S:g} s, and others wait; try again later"
            raise HttpError(408, detail, Connection="close") from error
        finally:
            self._reading = None

    def slow_since(self, now: float) -> float | None:
        """The time since which the body is coming; None for a place that is not given up."""
        slow = self._reading is not None and not self.given_up and now - self._begun >= SLOW_S
        return self._begun if slow else None

    def give_up(self) -> None:
        """End the reading."""
        if self._reading is not None:
            self.given_up = True
            self._reading.reschedule(asyncio.get_running_loop().time())


class Queue:
    """Places for requests, from their head to their answer, of which a few are in work."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.places = limits.queue
        self._taken: list[Place] = []
        self._metrics = metrics
        self._in_work = BESIDE_ENCODING + limits.encoders
        self._slots = asyncio.Semaphore(self._in_work)
        many = limits.encoders
        threads = {"words": WORD_THREADS, "read": 1, "encode": many, "segment": many, "answer": 1}
        self._pools = {name: ThreadPoolExecutor(number, f"t2d-{name}") for name, number in threads.items()}
        self._mean_s = 0.0

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place in the queue, before the request's body is read: nobody sends it in vain.

        Where all are taken, a request whose body comes slowly loses its place to this one; otherwise clients that send
        next to nothing would keep all others out. Raises HttpError, 429, where none is left.
        """
        if self.taken >= self.places:
            self._free_slow()
        self.check_room()
        place = Place()
        self._taken.append(place)
        self._metrics.queue.set(self.taken)
        try:
            yield place
        finally:
            self._leave(place)

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return len(self._taken)

    def _free_slow(self) -> None:
        """Take the place of the request whose body is coming for longest, where that is long."""
        now = asyncio.get_running_loop().time()
        slow = [(since, place) for place in self._taken if (since := place.slow_since(now)) is not None]
        if slow:
            _, slowest = min(slow, key=lambda item: item[0])
            slowest.give_up()
            self._leave(slowest)

    def _leave(self, place: Place) -> None:
        if place in self._taken:  # it is not where the place was given up
            self._taken.remove(place)
            self._metrics.queue.set(self.taken)

    def check_room(self) -> None:
        """Raises HttpError, 429, where no place is left. Retry-After is the time in which the queue empties."""
        if self.taken >= self.places:
            seconds = max(1, math.ceil(self.taken * self._mean_s))
            raise HttpError(
                429, f"{self.places} requests are waiting already; try again later", Retry_After=str(seconds)
            )

    @asynccontextmanager
    async def work(self, turn: Turn) -> AsyncIterator[None]:
        """Wait for the turn, in the order of arrival; few requests are in work at a time."""
        waited = time.perf_counter()
        async with self._slots:
            begun = time.perf_counter()
            turn.times_ms["queue"] = 1000 * (begun - waited)
            turn.in_work = True
            yield
            self._mean_s += WEIGHT * ((time.perf_counter() - begun) / self._in_work - self._mean_s)

    async def run(self, stage: str, turn: Turn, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call in a stage's thread. A call that waits is dropped where its request ends."""

        def timed() -> T:
            begun = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - begun
                turn.times_ms[stage] = 1000 * seconds
                self._metrics.stages.labels(stage).observe(seconds)

        return await asyncio.wrap_future(self._pools[stage].submit(timed))

    def close(self) -> None:
        """End the threads; calls that wait are dropped."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
