"""The way of a request through the queue: its place, its body, its turn, and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request, Response

from t2d_runtime.serving.body import values_of
from t2d_runtime.serving.guard import OWNER, NoAnswer
from t2d_runtime.serving.question import Question, question_of
from t2d_runtime.serving.queue import ClientLeftError, Turn
from t2d_runtime.serving.service import Answer, Service

Values = dict[str, Any]


async def attended(
    service: Service,
    request: Request,
    known: Iterable[str],
    work: Callable[[Values, Turn], Awaitable[Answer]],
    status: int = 200,
) -> Response:
    """Take a place in the queue, read a request's body, and work until the answer, the deadline, or nobody waits."""
    turn = Turn(service.limits.deadline_s)
    try:
        with service.queue.place() as place, service.uploads.holding() as held:
            body = await held.read(request.receive, request.headers, place)

            async def answer() -> Answer:
                kind = request.headers.get("content-type", "")
                values = await asyncio.to_thread(values_of, kind, body, request.scope["query_string"], known)
                return await work(values, turn)

            done = await turn.attended(answer(), request.receive)
    except ClientLeftError:
        service.metrics.left.inc()
        return NoAnswer()
    timing = ", ".join(f"{stage};dur={milliseconds:.1f}" for stage, milliseconds in turn.times_ms.items())
    headers = {"server-timing": timing, "cache-control": "no-store"}
    return Response(done.content, status, headers, done.media_type)


def checked_question(request: Request, values: Values, service: Service) -> Question:
    """The question in a request's values. Raises the errors of `question_of`."""
    defaults = service.segmenter.manifest.defaults
    return question_of(values, request.headers.get("accept", ""), defaults, service.limits)


def owner_of(request: Request) -> str:
    """The holder of the request's key."""
    owner: str = request.scope["state"][OWNER]
    return owner
