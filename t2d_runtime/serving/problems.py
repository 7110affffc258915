"""Errors as answers: application/problem+json (RFC 9457) with the runtime's one line, and without paths."""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Mapping

from starlette.responses import Response

from t2d_runtime.errors import (
    ClassNamesError,
    ImageError,
    ImageSizeError,
    MissingPackageError,
    OptionError,
    T2DError,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

_STATUSES: Mapping[type[T2DError], int] = {
    ImageSizeError: 413,
    ImageError: 415,
    ClassNamesError: 422,
    OptionError: 422,
    MissingPackageError: 501,
}
"""Errors of the request itself, the narrower ones first. Their text names nothing of this machine."""

TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Names of statuses that changed with RFC 9110; Python's are older in some versions."""


class HttpError(Exception):
    """A request that gets an error instead of its answer."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def problem_of(error: BaseException) -> HttpError:
    """The problem that tells an error to the client. An error of the deployment is told to the log alone."""
    if isinstance(error, HttpError):
        return error
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return HttpError(status, str(error))
    if isinstance(error, T2DError):
        logger.error("a request failed: %s", error)
    else:
        logger.error("a request failed", exc_info=error)
    return HttpError(500, "the server could not segment the picture; its log says why")


def response_of(problem: HttpError) -> Response:
    """The answer of a problem."""
    title = TITLES.get(problem.status) or http.HTTPStatus(problem.status).phrase
    content = {"type": "about:blank", "title": title, "status": problem.status, "detail": problem.detail}
    return Response(json.dumps(content), problem.status, problem.headers, MEDIA_TYPE)
