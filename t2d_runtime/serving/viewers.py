"""The newest picture for everybody who looks: parts of a multipart/x-mixed-replace answer, as cameras send them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from t2d_runtime.serving.problems import HttpError
from t2d_runtime.serving.queue import until_left

BOUNDARY = "frame"

MEDIA_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY}"


class Viewers:
    """Everybody who looks at one source. Used from the event loop, but for `kinds` and `publish`."""

    def __init__(self, most: int, on_change: Callable[[int], None]) -> None:
        self._most = most
        self._on_change = on_change
        self._looking: Counter[bool] = Counter()
        self._pictures: Mapping[bool, bytes] = {}
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.kinds: frozenset[bool] = frozenset()
        """Kinds of pictures that somebody looks at: with a legend, and without."""
        self.ended = False

    def __len__(self) -> int:
        return self._looking.total()

    def check_room(self) -> None:
        """Raises HttpError, 429, where as many look as may."""
        if len(self) >= self._most:
            raise HttpError(429, f"{self._most} clients look already; try again later", Retry_After="10")

    @contextmanager
    def looking(self, *, legend: bool) -> Iterator[None]:
        """Count somebody who looks, until the block ends."""
        self._loop = asyncio.get_running_loop()
        self._count(legend, 1)
        try:
            yield
        finally:
            self._count(legend, -1)

    def publish(self, pictures: Mapping[bool, bytes]) -> None:
        """Show other pictures, or none, from any thread."""
        if self._loop is not None and not self.ended:
            self._loop.call_soon_threadsafe(self._show, pictures)

    def picture(self, *, legend: bool) -> tuple[bytes | None, asyncio.Event]:
        """The newest picture, if there is one, and the event that tells of another."""
        return self._pictures.get(legend), self._changed

    def end(self) -> None:
        """Let all answers end."""
        self.ended = True
        self._show({})

    def _show(self, pictures: Mapping[bool, bytes]) -> None:
        self._pictures = pictures
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _count(self, legend: bool, step: int) -> None:
        self._looking[legend] += step
        self.kinds = frozenset(kind for kind, number in self._looking.items() if number)
        self._on_change(len(self))


class LiveResponse(Response):
    """An answer without end: each picture as a part. A client that takes them slowly gets the newest, not all."""

    media_type = MEDIA_TYPE

    def __init__(self, viewers: Viewers, *, legend: bool) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._viewers = viewers
        self._legend = legend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send pictures until the client leaves, or the server ends."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        left = asyncio.create_task(until_left(receive))
        try:
            with self._viewers.looking(legend=self._legend):
                await self._send_parts(left, send)
        finally:
            left.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _send_parts(self, left: asyncio.Task[None], send: Send) -> None:
        start = f"--{BOUNDARY}\r\n".encode()
        shown = None
        while not (self._viewers.ended or left.done()):
            picture, changed = self._viewers.picture(legend=self._legend)
            if picture is None or picture is shown:
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait({waiting, left}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                continue
            # The boundary comes right after a picture: browsers show a part when they see its end.
            part = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode() + picture
            body = start + part + f"\r\n--{BOUNDARY}\r\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
            start, shown = b"", picture
