"""The addresses of the live source: its picture, its state, and its words."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response

from t2d_runtime.serving import description
from t2d_runtime.serving.answer_schemas import LIVE_INFO, answer
from t2d_runtime.serving.attending import Values, attended, checked_question
from t2d_runtime.serving.body import values_of
from t2d_runtime.serving.live import Live
from t2d_runtime.serving.question import WORDS, flag_of, window_of
from t2d_runtime.serving.queue import Turn
from t2d_runtime.serving.service import Answer, Service
from t2d_runtime.serving.viewers import LiveResponse


def add_live(application: FastAPI, service: Service, live: Live) -> None:
    """Add GET /live, GET /live/info and PUT /live/words."""

    @application.get(
        "/live",
        summary="The live source with its masks, as JPEG pictures without end",
        tags=["live"],
        response_class=Response,
        responses={**description.LIVE, **description.problems(422, 429, *description.READ)},
        openapi_extra={"parameters": description.query(description.LEGEND)},
    )
    async def show(request: Request) -> Response:
        legend = flag_of(values_of("", b"", request.scope["query_string"], ("legend",)), "legend")
        live.viewers.check_room()
        return LiveResponse(live.viewers, legend=legend is not False)

    @application.get(
        "/live/info",
        summary="State, rate and words of the live source",
        tags=["live"],
        response_model=None,
        responses={**answer("The state", LIVE_INFO), **description.problems(*description.READ)},
    )
    async def info() -> dict[str, Any]:
        return live.info()

    @application.put(
        "/live/words",
        summary="Look for other words in the live source, for everybody who looks",
        tags=["live"],
        response_class=Response,
        responses={**answer("The state, with the new words", LIVE_INFO), **description.problems(*description.WORK)},
        openapi_extra=description.question({**description.words(service.limits), **description.WINDOW}, ("classes",)),
    )
    async def change(request: Request) -> Response:
        async def work(values: Values, turn: Turn) -> Answer:
            question = await asyncio.to_thread(checked_question, request, values, service)
            return await service.change_words(live, window_of(values), question, turn)

        return await attended(service, request, (*WORDS, "window"), work)
