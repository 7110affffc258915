"""The HTTP server: uvicorn with time limits for connections, on a socket of its own, drained on SIGTERM."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from t2d_runtime.errors import OptionError
from t2d_runtime.serving.connection import LimitedConfig
from t2d_runtime.serving.limits import Limits

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
            # A port that another server left is free at once. On Windows SO_REUSEADDR would share one in use.
            bound.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR), 1)
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
        config = LimitedConfig(
            application,
            limits,
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
