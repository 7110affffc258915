"""Requests that mean harm or are broken. Each must get a clear status from 400 to 499, and no other client a fault."""

from __future__ import annotations

import contextlib
import json
import socket
import zlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np

SEED = 0


def requests(picture: bytes, count: int) -> Iterator[tuple[bytes, bool]]:
    """`count` different requests: truncated, malformed, too large, of wrong types, hosts and origins.

    Each is its bytes on the wire, and whether the client then says that it sends no more.
    """
    rng = np.random.default_rng(SEED)
    kinds = (_cut_body, _damaged, _bomb, _wrong_type, _path, _foreign_host, _foreign_origin, _garbage, _json, _form)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        yield kind(picture, rng), kind in (_cut_body, _garbage)


def answer(address: str, request: bytes, ends: bool, timeout_s: float = 60) -> int:
    """Status of the answer to a request; 0 for none. `ends`: the client then says that it sends no more."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout_s) as connection:
        said = b""
        with contextlib.suppress(OSError):
            connection.sendall(request)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while b"\r\n" not in said and (piece := connection.recv(4096)):
                said += piece
    top = said.split(b"\r\n")[0].split(b" ")
    return int(top[1]) if len(top) > 1 and top[1].isdigit() else 0


def _head(path: str, length: int, *lines: str, host: str = "localhost", method: str = "POST") -> bytes:
    given = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {length}", *lines]
    return "\r\n".join([*given, "", ""]).encode("latin-1")


def _cut_body(picture: bytes, rng: np.random.Generator) -> bytes:
    return (
        _head("/segment?classes=sky", len(picture), "Content-Type: image/png") + picture[: rng.integers(len(picture))]
    )


def _damaged(picture: bytes, rng: np.random.Generator) -> bytes:
    body = picture[: rng.integers(1, len(picture) - 30)]
    return _head("/segment?classes=sky", len(body), "Content-Type: image/png") + body


def _bomb(picture: bytes, rng: np.random.Generator) -> bytes:
    side = int(rng.integers(10_000, 2**31))
    head = side.to_bytes(4) + side.to_bytes(4) + b"\x08\x02\x00\x00\x00"
    body = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
    return _head("/images", len(body), "Content-Type: image/png") + body


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)


def _wrong_type(picture: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.choice(["text/html", "application/xml", "image/png", "application/json", "multipart/form-data", ""])
    body = rng.bytes(int(rng.integers(1, 1000)))
    return _head("/segment?classes=sky", len(body), f"Content-Type: {kind}") + body


def _path(picture: bytes, rng: np.random.Generator) -> bytes:
    path = rng.choice(
        ["/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%00", "/images/../info/x", "/page.js/../x", "//x"]
    )
    return _head(str(path), 0, method="GET")


def _foreign_host(picture: bytes, rng: np.random.Generator) -> bytes:
    return _head("/info", 0, host=f"{rng.bytes(6).hex()}.example.org", method="GET")


def _foreign_origin(picture: bytes, rng: np.random.Generator) -> bytes:
    origin = f"Origin: https://{rng.bytes(6).hex()}.example.org"
    return _head("/segment?classes=sky", len(picture), origin, "Content-Type: image/png") + picture


def _garbage(picture: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(20, 2000))) + b"\r\n\r\n"


def _json(picture: bytes, rng: np.random.Generator) -> bytes:
    values: list[object] = [None, -1, "x" * 200_000, [[[]]], {"a": {"b": 1}}, 1e308, "http://169.254.169.254/"]
    value = values[rng.integers(len(values))]
    name = str(rng.choice(["image", "classes", "threshold", "refine", "prompts", "other"]))
    body = json.dumps({"image": "aGVsbG8=", "classes": "sky", name: value}).encode()
    return _head("/segment", len(body), "Content-Type: application/json") + body


def _form(picture: bytes, rng: np.random.Generator) -> bytes:
    parts = [
        b'--X\r\nContent-Disposition: form-data; name="part%d"; filename="../x"\r\n\r\n' % number
        + rng.bytes(50)
        + b"\r\n"
        for number in range(int(rng.integers(1, 60)))
    ]
    body = b"".join(parts) + (b"--X--\r\n", b"--X", b"")[rng.integers(3)]
    return _head("/segment", len(body), "Content-Type: multipart/form-data; boundary=X") + body
