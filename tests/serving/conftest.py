"""What the tests of the service share: a bundle's segmenter, a picture, and servers on loopback with free ports."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.types import ASGIApp

from t2d_runtime import ImageEncoding, Segmenter
from t2d_runtime.image.reading import ImageLike
from t2d_runtime.image.windows import WindowMode
from t2d_runtime.serving.application import application_of
from t2d_runtime.serving.hosts import Hosts
from t2d_runtime.serving.keys import Keys
from t2d_runtime.serving.known_words import KnownWords
from t2d_runtime.serving.limits import Limits
from t2d_runtime.serving.server import Server, address_of, listening_socket
from t2d_runtime.serving.service import LiveStart, Service

TIMEOUT_S = 60
"""For machines that are busy with other work too."""

CLIP_SIZE, CLIP_FRAMES = (60, 90), 15


class HeldSegmenter(Segmenter):
    """A segmenter whose encoding of pictures can be held up."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__(segmenter.encoders)
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Semaphore(0)

    def encode_image(self, image: ImageLike, window: WindowMode = "slide") -> ImageEncoding:
        self.begun.release()
        assert self.free.wait(TIMEOUT_S)
        return super().encode_image(image, window)


@dataclass(frozen=True)
class Running:
    """A server of this process."""

    url: str
    server: Server

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])


Serve = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime")


@pytest.fixture
def held(segmenter: Segmenter) -> Iterator[HeldSegmenter]:
    held = HeldSegmenter(segmenter)
    yield held
    held.free.set()


@contextmanager
def run_server(application: ASGIApp, limits: Limits, *, on_end: Callable[[], None] = lambda: None) -> Iterator[Running]:
    """Run a server in a thread of this process."""
    bound, started = listening_socket("127.0.0.1", 0), threading.Event()
    server = Server(application, limits, on_start=started.set, on_end=on_end)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])))
    url = address_of(bound)
    thread.start()
    try:
        assert started.wait(TIMEOUT_S)
        yield Running(url, server)
    finally:
        server.should_exit = True
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve(segmenter: Segmenter) -> Serve:
    """Runs a server in a thread of this process."""

    @contextmanager
    def running(
        limits: Limits | None = None,
        keys: tuple[str, ...] = (),
        hosts: Hosts | None = None,
        of: Segmenter = segmenter,
        live: LiveStart | None = None,
        known: KnownWords | None = None,
    ) -> Iterator[Running]:
        chosen = limits or Limits()
        service = Service(of, chosen, live, known)
        service.warm_up()
        application = application_of(service, hosts=hosts or Hosts.of("127.0.0.1"), keys=Keys(keys))
        with run_server(application, chosen, on_end=service.end_live) as server:
            yield server

    return running


@pytest.fixture(scope="session")
def server(serve: Serve) -> Iterator[Running]:
    """One server for all tests that leave it as it is."""
    with serve() as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


@pytest.fixture(scope="session")
def photo(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short video, at 50 frames a second."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=50)
        stream.height, stream.width, stream.pix_fmt = *CLIP_SIZE, "yuv420p"
        for number in range(CLIP_FRAMES):
            grey = np.full((*CLIP_SIZE, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(autouse=True)
def no_faults(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may make the server log a traceback."""
    caplog.set_level(logging.WARNING)
    yield
    found = [
        record.getMessage() for when in ("setup", "call") for record in caplog.get_records(when) if record.exc_info
    ]
    assert found == []
