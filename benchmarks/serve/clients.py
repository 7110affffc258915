"""Clients of a server on loopback that cost next to nothing: each sends the same bytes again and again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answered:
    """One request's outcome."""

    status: int
    """0 where the connection broke."""
    seconds: float


def request_of(address: str, picture: bytes, words: Sequence[str]) -> bytes:
    """A request to segment a picture, as its bytes on the wire."""
    query = ",".join(words).replace(" ", "%20")
    head = (
        f"POST /segment?classes={query}&format=grey HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(picture)}\r\n\r\n"
    )
    return head.encode() + picture


def crowd(
    address: str, requests: Sequence[bytes], clients: int, seconds: float, pause_s: float = 0.0
) -> list[Answered]:
    """Outcomes of clients that each ask, wait for the answer, and ask again.

    A refused one pauses before, half to one and a half times `pause_s`; clients begin within `pause_s`.
    """
    return asyncio.run(_crowd(address, requests, clients, seconds, pause_s))


async def _crowd(
    address: str, requests: Sequence[bytes], clients: int, seconds: float, pause_s: float
) -> list[Answered]:
    end = time.perf_counter() + seconds
    outcomes: list[Answered] = []
    asked = (_ask_again(address, requests, number, end, pause_s, outcomes) for number in range(clients))
    await asyncio.gather(*asked)
    return outcomes


async def _ask_again(
    address: str, requests: Sequence[bytes], number: int, end: float, pause_s: float, outcomes: list[Answered]
) -> None:
    parts, rng = urlsplit(address), random.Random(number)
    await asyncio.sleep(pause_s * rng.random())
    connection = await asyncio.open_connection(parts.hostname, parts.port)
    while (begun := time.perf_counter()) < end:
        try:
            status = await _ask(*connection, requests[number % len(requests)])
        except (ConnectionError, asyncio.IncompleteReadError):
            status = 0
        outcomes.append(Answered(status, time.perf_counter() - begun))
        number += 1
        if status != 200:
            await asyncio.sleep(pause_s * (0.5 + rng.random()))
        if status == 0:
            connection = await asyncio.open_connection(parts.hostname, parts.port)
    connection[1].close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
