"""The HTTP server: uvicorn with time limits for connections, on a socket of its own, drained on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from t2d_runtime.errors import OptionError
from t2d_runtime.serving.limits import Limits
from t2d_runtime.serving.problems import MEDIA_TYPE

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 15
"""Time that a connection stays open between two requests."""

LAST_PORT = 65535

BACKLOG = 1024
"""Connections that the system holds until the server takes them."""


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0 takes a free one. Raises OptionError where that cannot be done."""
    if not 0 <= port <= LAST_PORT:
        raise OptionError(f"--port is {port}, expected 0 to {LAST_PORT}; 0 takes a free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if host == "localhost":
            family, address = socket.AF_INET, ("127.0.0.1", port)
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = error.strerror or error
        raise OptionError(f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port") from error
    return bound


def address_of(bound: socket.socket) -> str:
    """The page's address."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class Server(uvicorn.Server):
    """A server that answers what has come when it is told to end, and takes no more."""

    def __init__(
        self,
        application: ASGIApp,
        limits: Limits,
        *,
        on_start: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        config = uvicorn.Config(
            application,
            http=_protocol(limits),
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=logging.getLogger("t2d_runtime").isEnabledFor(logging.INFO),
            proxy_headers=False,
            server_header=False,
            limit_concurrency=limits.connections,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(limits.deadline_s)),
        )
        super().__init__(config)
        self._on_start, self._on_end = on_start, on_end
        self.ended = False
        """True after the last answer."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and wait for the answers of those that came."""
        self._on_end()
        await super().shutdown(sockets)
        self.ended = True


def _protocol(limits: Limits) -> type[H11Protocol]:
    """uvicorn's protocol with time limits for a request's head and an answer's reader, and errors as problem+json."""

    class Protocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None
        _left = 0
        """Bytes that the client had not taken when its clock was started."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
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
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
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
            self._reading = self.loop.call_later(limits.answer_s, self._check_reading)

        def _stop_reading_clock(self) -> None:
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None

        def _check_reading(self) -> None:
            """End the connection of a client that took nothing: its answer and its place would be held for ever."""
            if self.transport.get_write_buffer_size() < self._left:
                self._start_reading_clock()
            else:
                logger.info("a client took nothing of its answer for %g s and was cut off", limits.answer_s)
                self.transport.abort()

        def _watch(self) -> None:
            """Start the clock while the rest of a head, or of an answered request, is awaited.

            Between two requests uvicorn's own clock runs.
            """
            in_head = self.conn.their_state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))
            if in_head or self.conn.our_state is h11.DONE:
                if self._waiting is None and not self.transport.is_closing():
                    self._waiting = self.loop.call_later(limits.head_s, self._cut_off)
            else:
                self._stop_watching()

        def _stop_watching(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _cut_off(self) -> None:
            self._waiting = None
            if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
                self._refuse(408, "Request Timeout", f"the request's head did not come within {limits.head_s:g} s")
            else:
                self.transport.close()

        def _refuse(self, status: int, title: str, detail: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
                self.transport.write(_refusal(status, title, detail))
            self.transport.close()

    return Protocol


def _refusal(status: int, title: str, detail: str) -> bytes:
    """A whole answer, for a connection on which HTTP has broken down."""
    problem: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body = json.dumps(problem).encode()
    head = (
        f"HTTP/1.1 {status} {title}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
