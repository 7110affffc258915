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

READ_THREADS = 2
"""Pictures decoded at a time: a slow one does not stop the others. Each takes several times its pixels' memory."""

SLOW_S = 1.0
"""Time after which a request whose body is still coming keeps its place, but keeps no other request out."""

MOST_SLOW = 3
"""Requests whose bodies come slowly, in places of the queue. Together they may fill the queue so many times more."""

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
        task, left = asyncio.ensure_future(work), asyncio.create_task(until_left(receive))
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
        self._begun: float | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The time in which the request's body comes."""
        self._begun = time.monotonic()
        try:
            yield
        finally:
            self._begun = None

    def is_slow(self, now: float) -> bool:
        """True where the body has been coming for long."""
        return self._begun is not None and now - self._begun >= SLOW_S


class Queue:
    """Places for requests, from their head to their answer, of which a few are in work."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.places = limits.queue
        self._taken: list[Place] = []
        self._metrics = metrics
        self._in_work = BESIDE_ENCODING + limits.encoders
        self._slots = asyncio.Semaphore(self._in_work)
        many = limits.encoders
        threads = {"words": WORD_THREADS, "read": READ_THREADS, "encode": many, "segment": many, "answer": 1}
        self._pools = {name: ThreadPoolExecutor(number, f"t2d-{name}") for name, number in threads.items()}
        self._mean_s = 0.0

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place in the queue, before the request's body is read: nobody sends it in vain.

        Raises HttpError, 429, where none is left.
        """
        self.check_room()
        place = Place()
        self._taken.append(place)
        self._metrics.queue.set(len(self._taken))
        try:
            yield place
        finally:
            self._taken.remove(place)
            self._metrics.queue.set(len(self._taken))

    def check_room(self) -> None:
        """Raises HttpError, 429, where no place is left. Retry-After is the time in which the queue empties.

        Requests whose bodies come slowly keep no others out, or clients that send next to nothing could do that.
        """
        now = time.monotonic()
        slow = sum(place.is_slow(now) for place in self._taken)
        if len(self._taken) - slow >= self.places or slow >= MOST_SLOW * self.places:
            seconds = max(1, math.ceil(len(self._taken) * self._mean_s))
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

    def encoded(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call in the encoder's thread, for a caller in a thread of its own, which waits for its turn.

        Of the requests in work each waits for at most one such call, and the caller for at most one call of each.
        """
        return self._pools["encode"].submit(call, *args, **kwargs).result()

    def close(self) -> None:
        """End the threads; calls that wait are dropped."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


async def until_left(receive: Receive) -> None:
    """Wait until the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
