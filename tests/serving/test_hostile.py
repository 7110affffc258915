"""Requests that mean harm, or are broken: a clear refusal each, and a server that goes on."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import zlib
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from t2d_runtime.serving.limits import Limits

from .conftest import TIMEOUT_S, Running, Serve, run_server
from .waiting import wait_until

FORM = b"multipart/form-data; boundary=XX"


@pytest.fixture(scope="module")
def impatient(serve: Serve) -> Iterator[Running]:
    with serve(Limits(head_s=0.4, upload_s=0.4, body_bytes=50_000, uploads_bytes=60_000)) as running:
        yield running


def exchange(running: Running, *parts: bytes, end: bool = False, pause_s: float = 0.0) -> bytes:
    """What the server says to some bytes until it closes the connection, or nothing more comes."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=TIMEOUT_S) as connection:
        said = b""
        with contextlib.suppress(ConnectionError):  # the server may have heard enough
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
        with contextlib.suppress(OSError):
            if end:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                said += piece
        return said


def head(method: str = "POST", path: str = "/segment", *lines: str, length: int | None = None) -> bytes:
    given = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines]
    if length is not None:
        given.append(f"Content-Length: {length}")
    return "\r\n".join([*given, "", ""]).encode("latin-1")


def told(said: bytes) -> tuple[int, str]:
    """Status and detail of a refusal."""
    top, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in top, said[:300]
    return int(top.split()[1]), json.loads(body)["detail"]


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"
        for name, value in parts
    )
    return body + b"--XX--\r\n"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
        b"GET / HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n",
        b"\r\n\r\n\x00\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000,
    ],
)
def test_what_is_not_http(server: Running, garbage: bytes) -> None:
    status, detail = told(exchange(server, garbage, end=True))
    assert status == 400
    assert detail == "Invalid HTTP request received."


@pytest.mark.parametrize("cut", ["head", "body"])
def test_a_request_that_ends_too_early(server: Running, cut: str) -> None:
    sent = head(length=1000)[:-8] if cut == "head" else head(length=1000) + b"half"
    status, detail = told(exchange(server, sent, end=True))
    assert status == 400
    assert detail == "the request ends before its body does"


def test_slow_clients_are_cut_off(impatient: Running) -> None:
    drip = [bytes([letter]) for letter in head("GET", "/info")[:7]]
    status, detail = told(exchange(impatient, *drip, pause_s=0.05))
    assert (status, detail) == (408, "the request's head did not come within 0.4 s")
    assert exchange(impatient) == b""
    status, detail = told(exchange(impatient, head(length=1000), b"part"))
    assert (status, detail) == (408, "the request's body did not come within 0.4 s")
    # An answered request whose body never ends.
    said = exchange(impatient, head("POST", "/nothing", length=1000).replace(b"Connection: close\r\n", b""), b"part")
    assert said.startswith(b"HTTP/1.1 404")


LARGE = b"x" * 30_000_000
"""An answer that does not fit into what the system keeps for a connection."""


async def large_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application whose every answer is LARGE."""
    if scope["type"] == "lifespan":
        for done in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{done}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": LARGE})


@pytest.fixture
def generous() -> Iterator[Running]:
    """A server of large answers, whose clients must not stop reading for two seconds."""
    with run_server(large_answer, Limits(answer_s=2.0)) as running:
        yield running


def test_a_client_that_stops_reading_is_cut_off(generous: Running) -> None:
    with socket.create_connection(("127.0.0.1", generous.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(head("GET", "/"))
        wait_until(lambda: bool(generous.server.server_state.connections))
        wait_until(lambda: not generous.server.server_state.connections)
        said = 0
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(2**20):
                said += len(piece)
    assert said < len(LARGE)


def test_a_client_that_reads_slowly_is_not(generous: Running) -> None:
    said, begun = 0, time.monotonic()
    with socket.create_connection(("127.0.0.1", generous.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(head("GET", "/"))
        while piece := connection.recv(2**18):
            said += len(piece)
            time.sleep(0.04)
    assert said > len(LARGE)
    assert time.monotonic() - begun > 2.0, "longer than a client may stop reading"


def test_bodies_are_counted(impatient: Running) -> None:
    assert told(exchange(impatient, head(length=50_001)))[0] == 413
    chunked = head("POST", "/segment", "Transfer-Encoding: chunked")
    piece = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    status, detail = told(exchange(impatient, chunked, piece * 4))
    assert status == 413
    assert detail.endswith("MiB; shrink the picture")
    waiting = head("POST", "/images", "Content-Type: image/png", length=45_000)
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=TIMEOUT_S) as other:
        other.sendall(waiting + b"x" * 40_000)
        time.sleep(0.1)
        status, detail = told(exchange(impatient, waiting + b"x" * 40_000))
        assert (status, detail) == (429, "too many large pictures are being sent; try again later")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (b"text/plain", b"hello", 415),
        (b"", b"hello", 415),
        (b"multipart/form-data", b"hello", 400),
        (FORM, b"hello", 400),
        (FORM, form(("classes", b"sky"))[:-8], 400),
        (FORM, form(("classes", b"sky"), ("classes", b"sea")), 422),
        (FORM, form(("classes", b"\xff\xfe")), 422),
        (FORM, form(("../../etc/passwd", b"x")), 422),
        (FORM, form(("image", b""), ("classes", b"sky")), 415),
        (FORM, form(*((f"part{i}", b"") for i in range(40))), 400),
        (FORM, b"--XX\r\nContent-Type: image/png\r\n\r\nx\r\n--XX--\r\n", 400),
        (b"application/json", b"{", 400),
        (b"application/json", b"[" * 20_000, 400),
        (b"application/json", b'{"classes": "sky", "classes": "sea"}', 422),
        (b"application/json", b'{"threshold": NaN}', 400),
        (b"application/json", b'["sky"]', 422),
        (b"application/json", b"\xff", 400),
        (b"application/json", b'{"classes": "\\ud800"}', 422),
        (b"application/x-www-form-urlencoded", b"classes=%ff", 400),
        (b"application/x-www-form-urlencoded", b"&".join(b"a%d=" % i for i in range(40)), 400),
        (b"image/png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, 415),
        (b"image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    ],
)
def test_bodies_that_are_not_what_they_say(server: Running, kind: bytes, body: bytes, status: int) -> None:
    query = "?classes=sky" if kind.startswith(b"image/") else ""
    sent = head("POST", f"/segment{query}", f"Content-Type: {kind.decode()}", length=len(body)) + body
    assert told(exchange(server, sent))[0] == status


def test_a_decompression_bomb_takes_no_memory(server: Running) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)

    size = (30_000).to_bytes(4)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + size + b"\x08\x02\x00\x00\x00")
    bomb += chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + chunk(b"IEND", b"")
    answer = httpx.post(f"{server.url}images", content=bomb, headers={"content-type": "image/png"}, timeout=TIMEOUT_S)
    assert answer.status_code == 413
    assert "30000 x 30000 pixels, more than the limit" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/page/index.html",
        "//etc/passwd",
        "/app.js/../../server.py",
        "/%00",
        "/index.html",
        "/images/../info/segment",
    ],
)
def test_no_path_leads_to_a_file(server: Running, path: str) -> None:
    status, detail = told(exchange(server, head("GET", path)))
    assert status in (404, 405)
    assert "see /docs" in detail


@pytest.mark.parametrize("name", ["0" * 32, "..", "%2e%2e", "x" * 5000, "\xe9"])
def test_ids_that_are_none(server: Running, name: str) -> None:
    body = b'{"classes": ["sky"]}'
    sent = head("POST", f"/images/{name}/segment", "Content-Type: application/json", length=len(body)) + body
    assert told(exchange(server, sent))[0] in (400, 404)


def test_the_server_lives(server: Running, impatient: Running, photo: bytes) -> None:
    for running in (server, impatient):
        answer = httpx.post(f"{running.url}segment", files={"image": photo}, data={"classes": "sky"}, timeout=TIMEOUT_S)
        assert answer.status_code == 200
