"""Crafted files and addresses: no other file is read, and no other machine is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import pytest

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
