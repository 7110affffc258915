"""The addresses of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from t2d_runtime import __version__
from t2d_runtime.errors import T2DError
from t2d_runtime.serving import description
from t2d_runtime.serving.answer_schemas import INFO, KEPT, STATUS, answer
from t2d_runtime.serving.attending import Values, attended, checked_question, owner_of
from t2d_runtime.serving.guard import Guard
from t2d_runtime.serving.hosts import Hosts
from t2d_runtime.serving.keys import Keys
from t2d_runtime.serving.live_addresses import add_live
from t2d_runtime.serving.metrics import CONTENT_TYPE
from t2d_runtime.serving.page_files import PageFile, page_files
from t2d_runtime.serving.problems import HttpError, problem_of, response_of
from t2d_runtime.serving.question import QUESTION, UPLOAD, image_of, window_of
from t2d_runtime.serving.queue import Turn
from t2d_runtime.serving.service import Answer, Service

PROBES = ("/healthz", "/readyz", "/openapi.json")
"""Addresses that need no key, besides the page's files: they tell nothing about pictures or clients."""


def application_of(service: Service, *, hosts: Hosts, keys: Keys) -> ASGIApp:
    """The whole service as an ASGI application, its gate included."""
    files = page_files(live=service.live is not None)
    application = _addresses(service, files)
    guard = Guard(
        application,
        hosts=hosts,
        keys=keys,
        metrics=service.metrics,
        open_paths=frozenset([*PROBES, *files]),
    )
    if not hosts.origins:
        return guard
    return CORSMiddleware(
        guard,
        allow_origins=sorted(hosts.origins),
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["authorization", "content-type", "x-api-key"],
        expose_headers=["server-timing", "retry-after"],
    )


def _addresses(service: Service, files: dict[str, PageFile]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    application = FastAPI(
        title=description.TITLE,
        version=__version__,
        description=description.checked(service.limits),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={
            HttpError: _told,
            T2DError: _told,
            HTTPException: _told_by_framework,
            Exception: _told,
        },
    )
    _add_segmenting(application, service)
    _add_pictures(application, service)
    _add_state(application, service)
    if service.live is not None:
        add_live(application, service, service.live)
    for address, file in files.items():
        _add_file(application, address, file)
    return application


def _add_segmenting(application: FastAPI, service: Service) -> None:
    """POST /segment."""
    questions = description.questions(service.limits)

    @application.post(
        "/segment",
        summary="Segment a picture",
        tags=["segment"],
        response_class=Response,
        responses={**description.ANSWER, **description.problems(*description.WORK)},
        openapi_extra=description.upload({**questions, **description.WINDOW}, ("classes",)),
    )
    async def segment(request: Request) -> Response:
        async def work(values: Values, turn: Turn) -> Answer:
            question = await asyncio.to_thread(checked_question, request, values, service)
            return await service.segment_upload(image_of(values), window_of(values), question, turn)

        return await attended(service, request, (*QUESTION, *UPLOAD), work)


def _add_pictures(application: FastAPI, service: Service) -> None:
    """POST /images, POST /images/{image_id}/segment, DELETE /images/{image_id}."""
    questions = description.questions(service.limits)

    @application.post(
        "/images",
        summary="Encode a picture, to ask about it again and again",
        tags=["pictures"],
        status_code=201,
        response_class=Response,
        responses={**answer("The picture is encoded and kept", KEPT, 201), **description.problems(*description.WORK)},
        openapi_extra=description.upload(description.WINDOW, ()),
    )
    async def keep(request: Request) -> Response:
        async def work(values: Values, turn: Turn) -> Answer:
            return await service.keep(image_of(values), window_of(values), owner_of(request), turn)

        return await attended(service, request, UPLOAD, work, status=201)

    @application.post(
        "/images/{image_id}/segment",
        summary="Segment an encoded picture",
        tags=["pictures"],
        response_class=Response,
        responses={**description.ANSWER, **description.problems(404, *description.WORK)},
        openapi_extra=description.question(questions, ("classes",)),
    )
    async def segment_kept(request: Request, image_id: str) -> Response:
        encoding = service.images.get(image_id, owner_of(request))

        async def work(values: Values, turn: Turn) -> Answer:
            question = await asyncio.to_thread(checked_question, request, values, service)
            return await service.segment_kept(encoding, question, turn)

        return await attended(service, request, QUESTION, work)

    @application.delete(
        "/images/{image_id}",
        summary="Forget an encoded picture",
        tags=["pictures"],
        status_code=204,
        responses=description.problems(404, 422, *description.READ),
    )
    async def forget(request: Request, image_id: str) -> None:
        service.images.remove(image_id, owner_of(request))
        service.count_images()


def _add_state(application: FastAPI, service: Service) -> None:
    """GET /info, /healthz, /readyz, /metrics."""
    read = description.problems(*description.READ)

    @application.get(
        "/info",
        summary="Model, engine, options and limits",
        tags=["state"],
        response_model=None,
        responses={**answer("Facts about the service", INFO), **read},
    )
    async def info() -> dict[str, Any]:
        return service.info()

    @application.get(
        "/healthz",
        summary="The process answers",
        tags=["state"],
        response_model=None,
        responses={**answer("It does", STATUS), **read},
    )
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @application.get(
        "/readyz",
        summary="The queue has room",
        tags=["state"],
        response_model=None,
        responses={**answer("It has", STATUS), **read, **description.problems(429)},
    )
    async def readyz() -> dict[str, str]:
        service.queue.check_room()
        return {"status": "ready"}

    @application.get(
        "/metrics", summary="Figures for Prometheus", tags=["state"], response_class=Response, responses=read
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})


def _add_file(application: FastAPI, address: str, file: PageFile) -> None:
    @application.api_route(address, methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        headers = {"etag": file.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)


async def _told(request: Request, error: Exception) -> Response:
    return response_of(problem_of(error))


async def _told_by_framework(request: Request, error: Exception) -> Response:
    """Tell an address or method that is unknown."""
    if not isinstance(error, HTTPException):
        return await _told(request, error)
    details = {404: "no such address; see /docs", 405: f"{request.method} is not for this address; see /docs"}
    problem = HttpError(error.status_code, details.get(error.status_code, str(error.detail)))
    problem.headers.update(error.headers or {})
    return response_of(problem)
