"""A network camera: RTSP from a server on loopback."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from t2d_runtime.errors import ImageError
from t2d_runtime.streams.frames import Frame
from tests.streams.clips import opened, outcomes_of, pictures, write_clip

SERVER = """
import asyncio, sys
from aio_rtsp_toolkit.server import RtspServer

async def serve():
    server = await RtspServer(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2])).start()
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(serve())
"""


@contextmanager
def rtsp_server(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own, which can be killed like a camera that loses its power."""
    command = [sys.executable, "-c", SERVER, str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            while "ready" not in (line := server.stdout.readline()):
                assert line, "the server ended"
            threading.Thread(target=server.stdout.read, daemon=True).start()  # empties the pipe
            yield server
        finally:
            server.kill()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("camera")
    write_clip(folder / "clip.mp4", pictures(60, (96, 128)), rate=30, options={"g": "10", "bf": "0"})
    return folder


def test_frames_of_a_network_camera(folder: Path, port: int) -> None:
    address = f"rtsp://127.0.0.1:{port}/clip.mp4"
    with rtsp_server(folder, port), opened(address.replace("//", "//me:secret@")) as stream:
        frames = [next(stream) for _ in range(8)]
    assert all(isinstance(frame, Frame) for frame in frames)
    times = [frame.time_s for frame in frames if isinstance(frame, Frame)]
    indices = [frame.index for frame in frames if isinstance(frame, Frame)]
    assert times == sorted(times)
    assert times[0] == 0
    assert indices == sorted(indices)
    assert {frame.source for frame in frames if isinstance(frame, Frame)} == {address}
    assert {frame.result.image.shape for frame in frames if isinstance(frame, Frame)} == {(96, 128, 3)}


def test_a_camera_that_vanishes_is_tried_again(
    folder: Path, port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2d_runtime.streams.live.FIRST_PAUSE_S", 0.02)
    address = f"rtsp://127.0.0.1:{port}/clip.mp4"
    with rtsp_server(folder, port) as server:
        stream = opened(address)
        first = next(stream)
        server.kill()
    assert isinstance(first, Frame)
    with caplog.at_level(logging.WARNING), rtsp_server(folder, port):
        later = first
        with stream:
            while not caplog.records:
                later = next(stream)
            after = next(stream)
    assert isinstance(later, Frame)
    assert isinstance(after, Frame)
    assert after.index > later.index
    assert after.time_s is not None
    assert later.time_s is not None
    assert after.time_s > later.time_s
    assert f"{address} went away: " in caplog.text


def test_tries_are_bounded_where_asked(
    folder: Path, port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2d_runtime.streams.live.FIRST_PAUSE_S", 0.001)
    address = f"rtsp://127.0.0.1:{port}/clip.mp4"
    with rtsp_server(folder, port) as server:
        stream = opened(address, errors="yield", retries=3)
        assert isinstance(next(stream), Frame)
        server.kill()
    *frames, error = list(stream)
    assert all(isinstance(frame, Frame) for frame in frames)
    assert isinstance(error, ImageError)
    assert str(error).endswith("it was tried again 3 times")
    assert [record.getMessage().split("; ")[-1] for record in caplog.records] == ["trying again in 0 s"] * 3


def test_a_camera_that_is_not_there_is_an_error_at_once(port: int) -> None:
    (outcome,) = outcomes_of(f"rtsp://127.0.0.1:{port}/clip.mp4")
    assert str(outcome) == f"rtsp://127.0.0.1:{port}/clip.mp4 cannot be read as video: Connection refused"


def test_a_camera_of_this_machine_that_is_not_there_is_told() -> None:
    (outcome,) = outcomes_of(99)
    assert isinstance(outcome, ImageError)
    assert str(outcome).startswith("camera 99: ")
