"""Bodies of requests: counted while they are read, and cut off where they are too large or too slow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.types import Receive

from t2d_runtime.serving.limits import MIB, Limits
from t2d_runtime.serving.metrics import Metrics
from t2d_runtime.serving.problems import HttpError
from t2d_runtime.serving.queue import ClientLeftError, Place


class Uploads:
    """The bodies of all open requests, which share a limit."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.held_bytes = 0
        self._metrics = metrics

    @contextmanager
    def holding(self) -> Iterator[Held]:
        """Count a request's body until the request ends."""
        held = Held(self)
        try:
            yield held
        finally:
            self.count(-held.size_bytes)

    def count(self, size_bytes: int) -> None:
        """Count bytes that have come, or that were given free."""
        self.held_bytes += size_bytes
        self._metrics.uploads_bytes.set(self.held_bytes)


class Held:
    """The body of one request."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self.size_bytes = 0

    async def read(self, receive: Receive, headers: Mapping[str, str], place: Place) -> bytes:
        """The whole body of the request that has this place.

        Raises HttpError: 413 for a body above the limit, by its Content-Length or by its bytes, 408 for a slow one, 429
        where all bodies together exceed theirs. Raises ClientLeftError.
        """
        limits = self._uploads.limits
        declared = headers.get("content-length", "0")
        self._check(int(declared) if declared.isascii() and declared.isdecimal() else 0)
        parts = []
        try:
            with place.reading():
                async with asyncio.timeout(limits.upload_s):
                    while True:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            raise ClientLeftError
                        part = message.get("body", b"")
                        self._count(len(part))
                        parts.append(part)
                        if not message.get("more_body", False):
                            return b"".join(parts)
        except TimeoutError as error:
            raise HttpError(
                408, f"the request's body did not come within {limits.upload_s:g} s", Connection="close"
            ) from error

    def _count(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self._uploads.count(size_bytes)
        self._check(self.size_bytes)

    def _check(self, size_bytes: int) -> None:
        limits = self._uploads.limits
        if size_bytes > limits.body_bytes:
            raise HttpError(
                413,
                f"the request's body has more than {limits.body_bytes / MIB:g} MiB; shrink the picture",
                Connection="close",
            )
        if self._uploads.held_bytes > limits.uploads_bytes:
            raise HttpError(429, "too many large pictures are being sent; try again later", Retry_After="5")
