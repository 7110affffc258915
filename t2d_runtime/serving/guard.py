"""Gate in front of the application: hosts, origins, keys, security headers, slow readers, and the count of answers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t2d_runtime.serving.hosts import Hosts
from t2d_runtime.serving.keys import Keys, key_of
from t2d_runtime.serving.metrics import Metrics
from t2d_runtime.serving.problems import HttpError, response_of

SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
)

OWNER = "owner"
"""Name in the request's state of the key's holder."""

OTHER = "other"
"""Route of requests that no address of the service matches, in the metrics."""


class Guard:
    """An ASGI application around another one."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        hosts: Hosts,
        keys: Keys,
        metrics: Metrics,
        open_paths: frozenset[str],
    ) -> None:
        self._application = application
        self._hosts = hosts
        self._keys = keys
        self._metrics = metrics
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        begun = time.perf_counter()

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"], time.perf_counter() - begun)
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        try:
            scope.setdefault("state", {})[OWNER] = self._checked_owner(scope)
        except HttpError as problem:
            await response_of(problem)(scope, receive, guarded)
            return
        await self._application(scope, receive, guarded)

    def _checked_owner(self, scope: Scope) -> str:
        """The key's holder. Raises HttpError: 400 and 421 for the host, 403 for the origin, 401 for the key."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not host:
            raise HttpError(400, "the request names no host")
        if not self._hosts.knows(host):
            raise HttpError(421, f"this server is not {host[:100]!r}; whoever runs it adds names with --allow-host")
        origin = headers.get(b"origin")
        if _is_embedded(headers) or (origin is not None and not self._hosts.trusts(origin.decode("latin-1"), host)):
            raise HttpError(
                403, "pages of other sites may not call this server; whoever runs it adds sites with --allow-origin"
            )
        owner = self._keys.owner(key_of(headers))
        if owner is None and scope["path"] not in self._open_paths:
            raise HttpError(
                401, "this server needs its key: send 'Authorization: Bearer KEY'", WWW_Authenticate="Bearer"
            )
        return owner or ""

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", OTHER)
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)


def _is_embedded(headers: Mapping[bytes, bytes]) -> bool:
    """True where a browser says that a page of another site shows this address, as in an <img>: that has no Origin."""
    foreign = headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
    return foreign and b"origin" not in headers and headers.get(b"sec-fetch-mode") != b"navigate"


class NoAnswer(Response):
    """An answer that nobody takes: the client has left."""

    def __init__(self) -> None:
        super().__init__(status_code=499)
