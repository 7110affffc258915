"""One client's connection: uvicorn's protocol with time limits, and errors as problem+json."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from t2d_runtime.serving.limits import Limits
from t2d_runtime.serving.problems import MEDIA_TYPE

logger = logging.getLogger(__name__)


class LimitedConfig(uvicorn.Config):
    """uvicorn's settings of a server whose connections have limits."""

    def __init__(self, application: ASGIApp, limits: Limits, **settings: Any) -> None:
        super().__init__(application, http=Connection, **settings)
        self.limits = limits


class Connection(H11Protocol):
    """uvicorn's protocol with clocks for a request's head and an answer's reader, and errors as problem+json."""

    _waiting: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _left = 0
    """Bytes that the client had not taken when its clock was started."""

    def __init__(self, config: LimitedConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._limits = config.limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first head."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._stop_watching()
        self._stop_reading_clock()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the clock of a client that takes its answer more slowly than it is made."""
        super().pause_writing()
        self._start_reading_clock()

    def resume_writing(self) -> None:
        """Stop the clock: the client has taken what there was."""
        self._stop_reading_clock()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request, and look at its clock."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Look at the clock after an answer."""
        super().on_response_complete()
        self._watch()

    def eof_received(self) -> None:
        """Answer a request that ends too early; asyncio closes the connection then."""
        begun = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        if begun and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.send_400_response("the request ends before its body does")

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not HTTP."""
        self._refuse(400, "Bad Request", msg)

    def _start_reading_clock(self) -> None:
        self._left = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(self._limits.answer_s, self._check_reading)

    def _stop_reading_clock(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _check_reading(self) -> None:
        """End the connection of a client that took nothing: its answer and its place would be held for ever."""
        if self.transport.get_write_buffer_size() < self._left:
            self._start_reading_clock()
        else:
            logger.info("a client took nothing of its answer for %g s and was cut off", self._limits.answer_s)
            self.transport.abort()

    def _watch(self) -> None:
        """Start the clock while the rest of a head, or of an answered request, is awaited.

        Between two requests uvicorn's own clock runs.
        """
        in_head = self.conn.their_state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))
        if in_head or self.conn.our_state is h11.DONE:
            if self._waiting is None and not self.transport.is_closing():
                self._waiting = self.loop.call_later(self._limits.head_s, self._cut_off)
        else:
            self._stop_watching()

    def _stop_watching(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _cut_off(self) -> None:
        self._waiting = None
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, "Request Timeout", f"the request's head did not come within {self._limits.head_s:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, title: str, detail: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            self.transport.write(_refusal(status, title, detail))
        self.transport.close()


def _refusal(status: int, title: str, detail: str) -> bytes:
    """A whole answer, for a connection on which HTTP has broken down."""
    problem: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body = json.dumps(problem).encode()
    head = (
        f"HTTP/1.1 {status} {title}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
