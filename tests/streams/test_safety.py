"""Crafted files and addresses: no other file is read, and no other machine is asked."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.response import addinfourl

import av
import pytest
from PIL import Image

from t2d_runtime.errors import ImageError
from tests.streams.clips import frames_of, outcomes_of, pictures, write_clip


@contextmanager
def served(handler: Any) -> Iterator[str]:
    """A server on loopback; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Noting(BaseHTTPRequestHandler):
    """Notes what it is asked for, and has nothing."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{target}'\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
DASH = (
    '<?xml version="1.0"?><MPD type="static" mediaPresentationDuration="PT1S" xmlns="urn:mpeg:dash:schema:mpd:2011">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1"><BaseURL>{target}</BaseURL>'
    '<SegmentBase indexRange="0-100"/></Representation></AdaptationSet></Period></MPD>'
)


@pytest.mark.parametrize("suffix", [".m3u8", ".mp4", ".ts", ".txt"])
@pytest.mark.parametrize("content", [PLAYLIST, CONCAT, DASH])
def test_lists_of_files_are_refused(content: str, suffix: str, tmp_path: Path) -> None:
    secret = write_clip(tmp_path / "secret.ts", pictures(12))
    crafted = tmp_path / f"crafted{suffix}"
    for target in (
        secret.name,
        str(secret),
        f"file://{secret}",
        f"file:{secret}",
        f"subfile,,start,0,end,0,,:{secret}",
    ):
        crafted.write_text(content.format(target=target))
        (outcome,) = outcomes_of(crafted)
        assert isinstance(outcome, ImageError)
        assert str(outcome).startswith(f"{crafted} cannot be read as video: ")


def test_ffmpeg_alone_would_read_the_other_file(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    write_clip(tmp_path / "secret.ts", pictures(12))
    for content, suffix in ((PLAYLIST, ".m3u8"), (CONCAT, ".txt")):
        crafted = tmp_path / f"crafted{suffix}"
        crafted.write_text(content.format(target="secret.ts"))
        with av.open(str(crafted)) as container:
            assert len(list(container.decode(video=0))) == 12


@pytest.mark.parametrize("content", [PLAYLIST, CONCAT, DASH])
def test_no_machine_is_asked(content: str, tmp_path: Path) -> None:
    asked: list[str] = []
    with served(type("Handler", (Noting,), {"asked": asked})) as address:
        crafted = tmp_path / "crafted.mp4"
        crafted.write_text(content.format(target=f"{address}/tracker.ts"))
        assert isinstance(outcomes_of(crafted)[0], ImageError)
    assert asked == []


def test_a_session_description_opens_no_port(tmp_path: Path) -> None:
    crafted = tmp_path / "crafted.sdp"
    crafted.write_text(SDP.format(port=5004))
    (outcome,) = outcomes_of(crafted)
    assert "it is in a format that is not read" in str(outcome)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("content", [PLAYLIST, CONCAT])
def test_a_list_at_an_address_reads_nothing_else(content: str, tmp_path: Path) -> None:
    secret = write_clip(tmp_path / "secret.ts", pictures(12))
    (tmp_path / "served").mkdir()
    asked: list[str] = []
    with (
        served(type("Handler", (Noting,), {"asked": asked})) as other,
        served(partial(Quiet, directory=tmp_path / "served")) as address,
    ):
        for target in (f"file://{secret}", str(secret), f"{other}/tracker.ts"):
            (tmp_path / "served" / "list.m3u8").write_text(content.format(target=target))
            (outcome,) = outcomes_of(f"{address}/list.m3u8")
            assert isinstance(outcome, ImageError)
    assert asked == []


def test_addresses_of_other_kinds_are_refused() -> None:
    for address in ("concat:a.ts|b.ts", "data:video/mp4,x", "ftp://host/a.mp4", "udp://@:1234", "subfile,,:a.mp4"):
        with pytest.raises((ImageError, ValueError, FileNotFoundError)):
            frames_of(address)


@contextmanager
def redirecting(target: Callable[[str], str]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that redirects all but "/seen.png". Gives its address, and the paths and logins that it is asked with.

    `target` makes the new address from the server's own.
    """
    asked: list[tuple[str, str | None]] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            picture = BytesIO()
            Image.fromarray(pictures(1)[0]).save(picture, "PNG")
            self.send_response(200 if self.path == "/seen.png" else 302)
            self.send_header("Location", target(f"http://{self.headers['Host']}"))
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(picture.getvalue())))
            self.end_headers()
            self.wfile.write(picture.getvalue())

        def log_message(self, *_: Any) -> None:
            pass

    with served(Redirecting) as address:
        yield address, asked


LOGIN = "Basic bWU6c2VjcmV0"


def test_a_login_is_not_sent_to_another_server() -> None:
    with (
        redirecting(lambda own: f"{own}/seen.png") as (other, seen),
        redirecting(lambda _: f"{other}/seen.png") as (address, asked),
    ):
        assert len(frames_of(f"{address.replace('//', '//me:secret@')}/a.png")) == 1
    assert asked == [("/a.png", LOGIN)]
    assert seen == [("/seen.png", None)]


def test_a_login_is_sent_to_the_same_server_again() -> None:
    with redirecting(lambda own: f"{own}/seen.png") as (address, asked):
        assert len(frames_of(f"{address.replace('//', '//me:secret@')}/a.png")) == 1
    assert asked == [("/a.png", LOGIN), ("/seen.png", LOGIN)]


def test_a_login_for_a_video_is_not_sent_to_another_server(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", pictures(4))
    seen: list[str | None] = []

    class Other(Quiet):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            super().do_GET()

    with (
        served(partial(Other, directory=tmp_path)) as other,
        redirecting(lambda _: f"{other}/a.mp4") as (address, asked),
    ):
        assert len(frames_of(f"{address.replace('//', '//me:secret@')}/a.mp4")) == 4
    assert len(asked) >= 2  # Python's request, and FFmpeg's
    assert len(seen) >= 2
    assert set(seen) == {None}


def test_no_redirection_to_another_scheme_is_followed() -> None:
    with redirecting(lambda _: "ftp://127.0.0.1/a.png") as (address, _):
        (outcome,) = outcomes_of(f"{address}/a.png")
    assert str(outcome) == (
        f"{address}/a.png cannot be read: the server redirects from http to ftp, which is not followed"
    )


def test_no_redirection_from_https_to_http_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with redirecting(lambda own: f"{own}/seen.png") as (address, asked):

        def redirected(_: object, request: urllib.request.Request) -> addinfourl:
            headers = HTTPMessage()
            headers["Location"] = f"{address}/seen.png"
            answer = addinfourl(BytesIO(), headers, request.full_url, 302)
            answer.msg = "Found"  # type: ignore[attr-defined]
            return answer

        monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", redirected)
        (outcome,) = outcomes_of("https://me:secret@camera/a.png")
    assert str(outcome) == (
        "https://camera/a.png cannot be read: the server redirects from https to http, which is not followed"
    )
    assert asked == []
