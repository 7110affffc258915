"""Sources at http and https addresses: a picture, a video, or a live stream, as the server's answer says."""

from __future__ import annotations

import base64
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request

from t2d_runtime import __version__
from t2d_runtime.errors import ImageError, T2DError
from t2d_runtime.image.formats import kind_of
from t2d_runtime.image.sizes import pixel_limit
from t2d_runtime.image.sources import read_file
from t2d_runtime.streams.containers import OPEN_TIMEOUT_S, opened_address
from t2d_runtime.streams.files import Found, decoded_frames, picture_frames
from t2d_runtime.streams.live import live_frames

_LOGIN = "Authorization"

BEGINNING = 256
"""First bytes of an answer that tell a picture."""


@dataclass(frozen=True)
class _Answer:
    """Kind of content that a server has at an address."""

    live: bool
    picture: bytes | None = None


def address_frames(address: str, name: str, stopped: threading.Event, *, retries: int | None) -> Found:
    """Frames of what is at an address; a live stream's until `stopped`. An error takes a frame's place."""
    try:
        answer = _asked(address, name)
        if answer.picture is not None:
            yield from picture_frames(answer.picture, None)
            return
        opening = partial(opened_address, address, name)
        if answer.live:
            yield from live_frames(opening, name, stopped, retries=retries)
            return
        with opening() as container:
            yield from decoded_frames(container, name, file=None)
    except T2DError as error:
        yield error


def _asked(address: str, name: str) -> _Answer:
    """Ask the server, and read a picture. A video is read by FFmpeg, which asks again for the parts it needs."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit(parts._replace(netloc=host))
    request = Request(bare, headers={"User-Agent": f"t2d-runtime/{__version__}"})
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header(_LOGIN, "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.build_opener(_Redirections).open(request, timeout=OPEN_TIMEOUT_S) as response:
            return _answer(response, name)
    except urllib.error.HTTPError as error:
        if error.code == 401 and parts.username is not None:  # cameras ask for another kind of login, which FFmpeg has
            return _Answer(live=True)
        raise ImageError(f"{name} cannot be read: the server says {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise ImageError(f"{name} cannot be read: {getattr(error, 'reason', None) or error}") from error


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https, none from https to http. Only the same server gets the login again."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The request for the new address. Raises URLError for one that is not followed."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise urllib.error.URLError(
                f"the server redirects from {old.scheme} to {new.scheme}, which is not followed"
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        login = req.unredirected_hdrs.get(_LOGIN)
        if request is not None and login is not None and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header(_LOGIN, login)
        return request


def _answer(response: HTTPResponse, name: str) -> _Answer:
    kind = response.headers.get_content_type()
    if kind.startswith("multipart/"):  # pictures one after the other, as cameras send them
        return _Answer(live=True)
    length = response.headers.get("Content-Length")
    if kind.startswith("video/") and length is None:
        return _Answer(live=True)
    start = response.read(BEGINNING)
    if kind.startswith("image/") or kind_of(start) not in (None, "GIF"):
        if kind_of(start) == "GIF":
            return _Answer(live=False)
        rest, _ = read_file(_Rest(start, response), pixel_limit(None))
        return _Answer(live=False, picture=rest)
    return _Answer(live=length is None)


class _Rest:
    """A file of bytes already read and the response after them."""

    def __init__(self, start: bytes, response: HTTPResponse) -> None:
        self._start = start
        self._response = response

    def read(self, size: int = -1, /) -> bytes:
        """Read some bytes; none at the end."""
        if self._start:
            start, self._start = self._start, b""
            return start
        return self._response.read(size)
