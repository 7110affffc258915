"""The queue: bounded, in order, with deadlines, and free of those who left."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import Segmenter
from t2d_runtime.image.reading import load_image
from t2d_runtime.serving import queue, service
from t2d_runtime.serving.limits import Limits
from t2d_runtime.serving.problems import HttpError
from t2d_runtime.serving.queue import Turn

from .conftest import TIMEOUT_S, HeldSegmenter, Running, Serve
from .waiting import wait_until


def ask(url: str, photo: bytes, words: str = "sky,sea", **options: str) -> httpx.Response:
    form = {"classes": words, "format": "grey", **options}
    return httpx.post(f"{url}segment", files={"image": photo}, data=form, timeout=TIMEOUT_S)


def taken(url: str) -> float:
    figures = httpx.get(f"{url}metrics", timeout=TIMEOUT_S).text
    return float(next(line for line in figures.splitlines() if line.startswith("t2d_queue_requests ")).split()[1])


def listens(running: Running) -> bool:
    try:
        httpx.get(f"{running.url}healthz", timeout=TIMEOUT_S)
    except httpx.ConnectError:
        return False
    return True


def test_clients_at_the_same_time_get_their_own_answers(
    server: Running, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    questions = [["sky", "sea"], ["sea", "sky"], ["tree"], ["boat", "sky", "person"]] * 4
    with ThreadPoolExecutor(len(questions)) as pool:
        answers = list(pool.map(lambda words: ask(server.url, photo, ",".join(words)), questions))
    for words, answer in zip(questions, answers, strict=True):
        assert answer.status_code == 200
        labels = np.asarray(Image.open(io.BytesIO(answer.content)))
        np.testing.assert_array_equal(labels, segmenter.segment(pixels, words).label_map)


def test_pictures_are_encoded_one_by_one_or_as_many_as_told(serve: Serve, held: HeldSegmenter, photo: bytes) -> None:
    for encoders in (1, 2):
        with serve(Limits(encoders=encoders), of=held) as running, ThreadPoolExecutor(4) as pool:
            while held.begun.acquire(blocking=False):  # of the picture that warms the server up
                pass
            held.free.clear()
            asked = [pool.submit(ask, running.url, photo) for _ in range(4)]
            for _ in range(encoders):
                assert held.begun.acquire(timeout=TIMEOUT_S)
            assert not held.begun.acquire(timeout=0.3)
            held.free.set()
            assert [future.result().status_code for future in asked] == [200] * 4


def test_a_picture_that_is_read_slowly_stops_no_other(
    server: Running, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, begun = threading.Event(), threading.Event()
    slow = photo + b"slow"

    def load(image: bytes, **options: Any) -> NDArray[np.uint8]:
        if image == slow:
            begun.set()
            assert free.wait(TIMEOUT_S)
        return load_image(image, **options)

    monkeypatch.setattr(service, "load_image", load)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, server.url, slow)
        try:
            assert begun.wait(TIMEOUT_S)
            assert [ask(server.url, photo).status_code for _ in range(3)] == [200] * 3
            assert not waiting.done()
        finally:
            free.set()
        assert waiting.result().status_code == 200


def test_a_full_queue_refuses_at_once_and_frees_its_places(serve: Serve, held: HeldSegmenter, photo: bytes) -> None:
    with serve(Limits(queue=3), of=held) as running, ThreadPoolExecutor(3) as pool:
        held.free.clear()
        waiting = [pool.submit(ask, running.url, photo) for _ in range(3)]
        wait_until(lambda: taken(running.url) == 3)
        refused = ask(running.url, photo)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["detail"] == "3 requests are waiting already; try again later"
        assert httpx.get(f"{running.url}readyz").status_code == 429
        assert httpx.get(f"{running.url}healthz").status_code == 200
        held.free.set()
        assert [future.result().status_code for future in waiting] == [200] * 3
        assert ask(running.url, photo).status_code == 200


def test_a_refusal_waits_for_no_body_and_keeps_the_connection(serve: Serve, held: HeldSegmenter, photo: bytes) -> None:
    """Neither for one that is announced with Expect, nor for one that is on its way."""
    with serve(Limits(queue=1), of=held) as running, ThreadPoolExecutor(1) as pool:
        held.free.clear()
        waiting = pool.submit(ask, running.url, photo)
        wait_until(lambda: taken(running.url) == 1)
        for expects in ("Expect: 100-continue\r\n", ""):
            head = f"POST /segment?classes=sky HTTP/1.1\r\nHost: localhost\r\n{expects}Content-Type: image/png\r\n"
            with socket.create_connection(("127.0.0.1", running.port), timeout=TIMEOUT_S) as connection:
                connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b"x" * (0 if expects else 10))
                answers = connection.makefile("rb")
                assert answers.readline().startswith(b"HTTP/1.1 429")
                lines = list(iter(answers.readline, b"\r\n"))
                assert any(line.lower().startswith(b"retry-after:") for line in lines)
                assert not any(line.lower().startswith(b"connection:") for line in lines)
                length = next(int(line.split()[1]) for line in lines if line.lower().startswith(b"content-length:"))
                answers.read(length)
                connection.sendall(
                    b"x" * (1000 if expects else 990) + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
                )
                assert answers.readline().startswith(b"HTTP/1.1 200")
        held.free.set()
        assert waiting.result().status_code == 200


@contextmanager
def half_sent(running: Running, photo: bytes) -> Iterator[tuple[socket.socket, bytes]]:
    """A request that has its place, and the half of its body that did not come yet."""
    head = "POST /segment?classes=sky HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nConnection: close\r\n"
    half = len(photo) // 2
    with socket.create_connection(("127.0.0.1", running.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(photo)}\r\n\r\n".encode() + photo[:half])
        wait_until(lambda: taken(running.url) == 1)
        yield connection, photo[half:]


def test_nobody_sends_a_body_in_vain(serve: Serve, photo: bytes) -> None:
    """A place is taken before the body comes, so that no other request gets it meanwhile."""
    with serve(Limits(queue=1)) as running, half_sent(running, photo) as (connection, rest):
        assert ask(running.url, photo).status_code == 429
        connection.sendall(rest)
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 200")


def test_slow_bodies_keep_nobody_out(serve: Serve, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are answered when they are there; but they have their own bound."""
    monkeypatch.setattr(queue, "SLOW_S", 0.0)
    with serve(Limits(queue=1)) as running, half_sent(running, photo) as (connection, rest):
        assert ask(running.url, photo).status_code == 200
        connection.sendall(rest)
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 200")
    monkeypatch.setattr(queue, "MOST_SLOW", 1)
    with serve(Limits(queue=1)) as running, half_sent(running, photo):
        assert ask(running.url, photo).status_code == 429


def test_a_client_that_leaves_frees_its_place(serve: Serve, held: HeldSegmenter, photo: bytes) -> None:
    with serve(Limits(queue=6), of=held) as running:
        held.free.clear()
        for _ in range(6):  # four in work, of which one is in the engine, and two that wait
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{running.url}segment", files={"image": photo}, data={"classes": "sky"}, timeout=0.3)
        wait_until(lambda: taken(running.url) == 0)
        held.free.set()
        assert ask(running.url, photo).status_code == 200
        assert "t2d_clients_left_total 6.0" in httpx.get(f"{running.url}metrics").text


def test_deadlines(serve: Serve, held: HeldSegmenter, photo: bytes) -> None:
    """All get their error in time, whether they wait or are in work; the next ones are served."""
    with serve(Limits(deadline_s=0.5), of=held) as running, ThreadPoolExecutor(8) as pool:
        held.free.clear()
        answers = [future.result() for future in [pool.submit(ask, running.url, photo) for _ in range(8)]]
        assert {answer.status_code for answer in answers} <= {503, 504}
        in_work = "the picture was not segmented within 0.5 s; shrink it, or retry"
        assert in_work in {answer.json()["detail"] for answer in answers}
        assert taken(running.url) == 0
        held.free.set()
        wait_until(lambda: ask(running.url, photo).status_code == 200)


def test_a_request_that_waits_at_its_deadline_may_come_again() -> None:
    async def wait() -> None:
        await Turn(0.01).attended(asyncio.sleep(TIMEOUT_S), asyncio.Event().wait)  # type: ignore[arg-type]

    with pytest.raises(HttpError, match=r"no turn came within 0\.01 s; try again later") as caught:
        asyncio.run(wait())
    assert caught.value.status == 503
    assert caught.value.headers == {"Retry-After": "10"}


def test_an_end_answers_what_has_come(serve: Serve, held: HeldSegmenter, photo: bytes) -> None:
    with serve(Limits(), of=held) as running, ThreadPoolExecutor(6) as pool:
        held.free.clear()
        waiting: list[Future[httpx.Response]] = [pool.submit(ask, running.url, photo) for _ in range(6)]
        wait_until(lambda: taken(running.url) == 6)
        running.server.should_exit = True
        wait_until(lambda: not listens(running))
        held.free.set()
        assert [future.result().status_code for future in waiting] == [200] * 6


def test_pictures_are_dropped_in_the_order_of_their_use(serve: Serve, photo: bytes, segmenter: Segmenter) -> None:
    encoding = segmenter.encode_image(photo)
    arrays = (encoding.image, encoding.resized, encoding.patch_tokens, encoding.cls_attention)
    size = sum(array.nbytes for array in arrays)
    with (
        serve(Limits(images_bytes=2 * size)) as running,
        httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client,
    ):
        first, second = (client.post("/images", files={"image": photo}).json()["id"] for _ in range(2))
        assert client.post(f"/images/{first}/segment", json={"classes": ["sky"]}).status_code == 200
        third = client.post("/images", files={"image": photo}).json()["id"]
        found = {name: client.delete(f"/images/{name}").status_code for name in (first, second, third)}
        assert found == {first: 204, second: 404, third: 204}
    with serve(Limits(images_bytes=size - 1)) as running:
        answer = httpx.post(f"{running.url}images", files={"image": photo})
        assert answer.status_code == 413
        assert "shrink it" in answer.json()["detail"]


def test_pixels_and_work_are_limited(serve: Serve, photo: bytes) -> None:
    with serve(Limits(pixels=60 * 90 - 1)) as running:
        answer = ask(running.url, photo)
        assert answer.status_code == 413
        assert "90 x 60 pixels, more than the limit of 5399" in answer.json()["detail"]
    with serve(Limits(scores=60 * 90 * 2)) as running:
        assert ask(running.url, photo).status_code == 200
        answer = ask(running.url, photo, "sky,sea,sand")
        assert answer.status_code == 413
        assert "send a smaller picture or fewer words" in answer.json()["detail"]


def test_new_words_are_given_up_where_nobody_waits(serve: Serve, segmenter: Segmenter, photo: bytes) -> None:
    """The text encoder goes on with others' words, not with those of a request that is over."""
    reported = threading.Semaphore(0)

    class Slow(Segmenter):
        def encode_classes(self, classes, prompts="subset", **options):  # type: ignore[no-untyped-def]
            progress = options.get("progress")
            if progress is None:
                return super().encode_classes(classes, prompts, **options)
            reported.release()
            while True:
                time.sleep(0.02)
                progress(1, 2)

    before = set(threading.enumerate())
    with serve(Limits(deadline_s=0.3), of=Slow(segmenter.encoders)) as running:
        assert ask(running.url, photo).status_code == 504
        assert reported.acquire(timeout=TIMEOUT_S)
    wait_until(lambda: set(threading.enumerate()) <= before)
