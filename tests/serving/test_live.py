"""A live source: its parts, its words, who may look, and what happens where it ends or goes away."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import Segmenter
from t2d_runtime.errors import ImageError, OptionError
from t2d_runtime.serving import live
from t2d_runtime.serving.limits import Limits
from t2d_runtime.serving.live_source import LiveSource
from t2d_runtime.serving.service import LiveStart
from t2d_runtime.streams import sources
from t2d_runtime.streams.frames import SourceFrame

from .conftest import CLIP_FRAMES, CLIP_SIZE, TIMEOUT_S, HeldSegmenter, Running, Serve
from .waiting import wait_until

KEY = "0123456789abcdef"


class FakeCamera:
    """Stands for a network camera that gives one picture again and again; it can fail, and come back."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.opened = 0
        self.open = 0
        self.broken: str | None = None
        self.error: Exception | None = None
        self.interval_s = 0.01

    def load(self) -> NDArray[np.uint8]:
        if self.error is not None:
            raise self.error
        return self.pixels

    def __call__(self, opening: Any, name: str, stopped: threading.Event, *, retries: int | None) -> Iterator[Any]:
        assert retries == 0
        self.opened, self.open = self.opened + 1, self.open + 1
        index = 0
        try:
            while not stopped.wait(self.interval_s):
                if self.broken is not None:
                    yield ImageError(f"{name} went away: {self.broken}")
                    return
                yield SourceFrame(self.load, index, 0.01 * index, live=True)
                index += 1
        finally:
            self.open -= 1


@pytest.fixture(scope="module")
def still() -> NDArray[np.uint8]:
    """A smooth picture, which survives JPEG."""
    rows, columns = np.mgrid[: CLIP_SIZE[0], : CLIP_SIZE[1]]
    waves = 127 + 100 * np.sin((columns + rows) / 25 + np.arange(3)[:, None, None])
    return waves.transpose(1, 2, 0).astype(np.uint8)


@pytest.fixture
def camera(still: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    camera = FakeCamera(still)
    monkeypatch.setattr(sources, "live_frames", camera)
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(live, "LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(live, "LINGER_S", 0.05)
    return camera


@pytest.fixture
def started(camera: FakeCamera, segmenter: Segmenter) -> LiveStart:
    source = LiveSource.open("rtsp://me:secret@camera.example:554/user=me_password=secret?token=secret")
    return source, segmenter.encode_classes(["sky", "sea"])


@pytest.fixture
def running(serve: Serve, started: LiveStart) -> Iterator[Running]:
    with serve(live=started) as running:
        yield running


@pytest.fixture
def client(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client:
        yield client


def parts_of(answer: httpx.Response) -> Iterator[Image.Image]:
    """The pictures of a multipart answer, each as its own header says."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
    held, chunks = b"", answer.iter_bytes()
    while True:
        while b"\r\n\r\n" not in held:
            held += next(chunks)
        head, _, held = held.partition(b"\r\n\r\n")
        lines = head.strip().split(b"\r\n")
        assert lines[:2] == [b"--frame", b"Content-Type: image/jpeg"]
        length = int(lines[2].removeprefix(b"Content-Length: "))
        while len(held) < length:
            held += next(chunks)
        yield Image.open(io.BytesIO(held[:length])).convert("RGB")
        held = held[length:]


@contextmanager
def looking(client: httpx.Client, address: str = "/live", **headers: str) -> Iterator[Iterator[Image.Image]]:
    """Look at the source until the block ends."""
    with client.stream("GET", address, headers=headers) as answer:
        yield parts_of(answer)


def status_of(client: httpx.Client, address: str, **headers: str) -> int:
    """Status of an answer that may have no end."""
    with client.stream("GET", address, headers=headers) as answer:
        return answer.status_code


def state_of(client: httpx.Client) -> dict[str, Any]:
    info: dict[str, Any] = client.get("/live/info").json()
    return info


def until(client: httpx.Client, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The state, once a condition holds for it."""
    wait_until(lambda: condition(state_of(client)))
    return state_of(client)


def assert_alike(picture: Image.Image, expected: Image.Image) -> None:
    """Equal but for JPEG."""
    assert picture.size == expected.size
    assert np.abs(np.asarray(picture, int) - np.asarray(expected, int)).mean() < 6


def test_pictures_come_with_their_masks(client: httpx.Client, segmenter: Segmenter, still: NDArray[np.uint8]) -> None:
    expected = segmenter.segment(still, ["sky", "sea"])
    for address, legend in (("/live", True), ("/live?legend=false", False)):
        with client.stream("GET", address) as answer:
            assert answer.headers["cache-control"] == "no-store"
            pictures = parts_of(answer)
            for _ in range(3):
                assert_alike(next(pictures), expected.overlay(legend=legend))
            info = until(client, lambda info: info["state"] == "live" and info["frames"] > 3)
    shares = {label["name"]: label["share"] for label in info["labels"]}
    for name in ("sky", "sea"):
        assert shares.get(name, 0) == pytest.approx(expected.mask(name).mean(), abs=1e-4)
    assert (info["height"], info["width"], info["viewers"], info["problem"]) == (*CLIP_SIZE, 1, None)
    assert info["frames_per_s"] > 0


def test_words_change_for_everybody(client: httpx.Client, segmenter: Segmenter, still: NDArray[np.uint8]) -> None:
    question = {"classes": {"wood": ["tree", "fence"]}, "negatives": ["wall"], "background": True, "threshold": 0.6}
    expected = segmenter.segment(
        still,
        segmenter.encode_classes({"wood": ["tree", "fence"]}, negatives=["wall"]),
        background=True,
        threshold=0.6,
    )
    with looking(client) as one, looking(client, "/live?legend=false") as other:
        streams = (one, other)
        for stream in streams:
            next(stream)
        answer = client.put("/live/words", json=question)
        assert answer.status_code == 200
        assert answer.json()["version"] == 2
        info = until(client, lambda info: {label["name"] for label in info["labels"]} <= {"background", "wood"})
        for stream, legend in zip(streams, (True, False), strict=True):
            for _ in range(10):  # a few of the former words may be on their way
                picture = next(stream)
            assert_alike(picture, expected.overlay(legend=legend))
    words = info["words"]
    assert words["classes"] == {"wood": ["tree", "fence"]}
    assert (words["negatives"], words["background"], words["threshold"]) == (["wall"], True, 0.6)
    assert "backend" not in words


def test_words_are_checked_and_the_former_stay(client: httpx.Client) -> None:
    for question, status, part in (
        ({"classes": "sky,Sky"}, 422, "are the same"),
        ({"classes": "sky", "threshold": 0.6}, 422, "threshold has no effect"),
        ({"classes": "sky", "format": "json"}, 422, "unknown names ['format']"),
        ({}, 422, "classes are missing"),
        ({"classes": [f"thing {number}" for number in range(300)]}, 422, "expected at most 200"),
    ):
        answer = client.put("/live/words", json=question)
        assert (answer.status_code, part in answer.json()["detail"]) == (status, True), answer.text
    info = state_of(client)
    assert (info["version"], list(info["words"]["classes"])) == (1, ["sky", "sea"])


def test_a_source_is_open_while_somebody_looks(client: httpx.Client, camera: FakeCamera) -> None:
    """Several look at one stream; nobody looks at none."""
    begun = camera.opened  # a first look when the server starts
    assert (camera.open, state_of(client)["state"]) == (0, "idle")
    with looking(client) as one, looking(client) as other:
        next(one), next(other)
        assert (camera.opened, camera.open, state_of(client)["viewers"]) == (begun + 1, 1, 2)
    info = until(client, lambda info: info["state"] == "idle")
    assert (camera.open, info["viewers"], info["labels"]) == (0, 0, [])
    with looking(client) as again:
        next(again)
        assert camera.opened == begun + 2


def test_a_source_that_gives_no_frame_is_freed_too(client: httpx.Client, camera: FakeCamera) -> None:
    camera.interval_s = 3600
    with client.stream("GET", "/live"):
        wait_until(lambda: camera.open == 1)
    wait_until(lambda: camera.open == 0)
    until(client, lambda info: info["state"] == "idle")


def test_a_source_that_vanishes_is_tried_again(client: httpx.Client, camera: FakeCamera) -> None:
    with looking(client) as pictures:
        next(pictures)
        camera.broken = "it lost its power"
        info = until(client, lambda info: info["state"] == "away")
        assert info["problem"] == "rtsp://camera.example:554 went away: it lost its power"
        tried = camera.opened
        wait_until(lambda: camera.opened > tried + 1)
        camera.broken = None
        info = until(client, lambda info: info["state"] == "live")
        assert info["problem"] is None
        for _ in range(5):
            next(pictures)


def test_clients_learn_no_secret_of_the_source(client: httpx.Client, camera: FakeCamera) -> None:
    camera.broken = "no route"
    with client.stream("GET", "/live"):
        until(client, lambda info: info["state"] == "away")
        for address in ("/live/info", "/info", "/openapi.json", "/metrics"):
            assert "secret" not in client.get(address).text
    assert client.get("/info").json()["live"] == "rtsp://camera.example:554"


def test_a_key_is_needed_to_look_and_to_change_words(serve: Serve, started: LiveStart) -> None:
    with serve(live=started, keys=(KEY,)) as running, httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client:
        wrong: tuple[dict[str, str], ...] = ({}, {"x-api-key": "wrong"})
        for headers in wrong:
            assert status_of(client, "/live", **headers) == 401
            assert client.get("/live/info", headers=headers).status_code == 401
            assert client.put("/live/words", json={"classes": "cat"}, headers=headers).status_code == 401
        assert status_of(client, f"/live?key={KEY}") == 401  # addresses are logged, and stay in histories
        right = {"authorization": f"Bearer {KEY}"}
        assert client.get("/live/info", headers=right).json()["version"] == 1
        with looking(client, **right) as pictures:
            next(pictures)
        assert client.put("/live/words", json={"classes": "cat"}, headers=right).status_code == 200
        for address in ("/watch", "/live.js"):
            assert client.get(address).status_code == 200


def test_pages_of_other_sites_neither_look_nor_change_words(client: httpx.Client, camera: FakeCamera) -> None:
    begun = camera.opened
    foreign = {"origin": "https://example.org"}
    assert status_of(client, "/live", **foreign) == 403
    assert client.put("/live/words", json={"classes": "cat"}, headers=foreign).status_code == 403
    assert state_of(client)["version"] == 1
    # An <img> of another site sends no Origin, but browsers tell that it is another site's.
    for site in ("cross-site", "same-site"):
        image = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert status_of(client, "/live", **image) == 403
    assert camera.opened == begun
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    own = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert client.get("/live/info", headers=own).status_code == 200


def test_few_look_at_a_time(serve: Serve, started: LiveStart) -> None:
    limits = Limits(viewers=1)
    with serve(limits, live=started) as running, httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client:
        with looking(client) as pictures:
            next(pictures)
            with client.stream("GET", "/live") as refused:
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        until(client, lambda info: info["viewers"] == 0)
        with looking(client) as pictures:
            next(pictures)


def test_frames_take_turns_with_requests(serve: Serve, started: LiveStart, held: HeldSegmenter, photo: bytes) -> None:
    """One picture is encoded at a time, and neither keeps the other out."""
    with (
        serve(live=started, of=held) as running,
        httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client,
        looking(client) as pictures,
        ThreadPoolExecutor(1) as pool,
    ):
        next(pictures)
        held.free.clear()
        while held.begun.acquire(timeout=0.2):  # the frame that is in the encoder now
            pass
        asked = pool.submit(client.post, "/segment", files={"image": photo}, data={"classes": "sky"})
        assert not held.begun.acquire(timeout=0.3)  # the request waits for the frame
        held.free.set()
        assert asked.result().status_code == 200
        for _ in range(3):
            next(pictures)


def test_an_end_lets_viewers_go(serve: Serve, started: LiveStart, camera: FakeCamera) -> None:
    with serve(live=started) as running, httpx.stream("GET", f"{running.url}live", timeout=TIMEOUT_S) as answer:
        for number, _ in enumerate(answer.iter_bytes()):
            running.server.should_exit = running.server.should_exit or number > 2
    assert camera.open == 0


def test_a_server_without_a_source_has_none(serve: Serve) -> None:
    with serve() as running:
        for address in ("live", "live/info", "watch", "live.js"):
            assert httpx.get(f"{running.url}{address}", timeout=TIMEOUT_S).status_code == 404
        assert httpx.get(f"{running.url}info", timeout=TIMEOUT_S).json()["live"] is None


def test_a_video_is_played_and_begins_again_at_its_end(serve: Serve, segmenter: Segmenter, clip: Path) -> None:
    """Nothing is told but its name, not its folder."""
    start = LiveSource.open(str(clip)), segmenter.encode_classes(["sky", "sea"])
    with serve(live=start) as running, httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client:
        with looking(client) as pictures:
            next(pictures)
            info = until(client, lambda info: info["frames"] + info["dropped"] > CLIP_FRAMES)
            assert (info["source"], info["problem"]) == ("clip.mp4", None)
            assert info["state"] in ("live", "opening")
        assert str(clip.parent) not in client.get("/live/info").text


def test_a_damaged_frame_is_told_and_the_next_one_shown(client: httpx.Client, camera: FakeCamera) -> None:
    with looking(client) as pictures:
        next(pictures)
        camera.error = ImageError("it is damaged")
        info = until(client, lambda info: info["problem"] is not None)
        assert re.fullmatch(r"frame \d+ of rtsp://camera\.example:554: it is damaged", info["problem"])
        camera.error = None
        until(client, lambda info: info["state"] == "live" and info["problem"] is None)
        for _ in range(5):
            next(pictures)


def test_after_a_fault_it_goes_on(client: httpx.Client, camera: FakeCamera, caplog: pytest.LogCaptureFixture) -> None:
    with looking(client) as pictures:
        next(pictures)
        camera.error = ZeroDivisionError("of the program")
        info = until(client, lambda info: info["problem"] is not None)
        assert info["problem"] == "the server could not segment a frame; its log says why"
        camera.error = None
        until(client, lambda info: info["state"] == "live" and info["problem"] is None)
        for _ in range(5):
            next(pictures)
    assert "ZeroDivisionError: of the program" in caplog.text
    caplog.clear()


def test_what_does_not_go_on_is_no_source(tmp_path: Path, photo: bytes, camera: FakeCamera) -> None:
    (tmp_path / "photo.png").write_bytes(photo)
    for text, message in (
        (str(tmp_path / "photo.png"), "is a picture, expected a camera's number"),
        (str(tmp_path), "is a folder, expected a camera's number"),
    ):
        with pytest.raises(OptionError, match=message):
            LiveSource.open(text)
    camera.broken = "no route"
    with pytest.raises(ImageError, match="3 went away: no route"):
        LiveSource.open("3")
