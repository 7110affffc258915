"""The stream itself: overlapping, bounds, newest frames of live sources, early ends, and what is released."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from t2d_runtime import ClassEmbeddings, Segmenter, T2DError
from t2d_runtime.errors import BackendError, ImageError, MissingPackageError, OutputError
from t2d_runtime.streams import sources
from t2d_runtime.streams.frames import Frame, SourceFrame
from t2d_runtime.streams.stream import FrameStream
from tests.streams.clips import NoModel, frames_of, opened, outcomes_of, pictures, write_clip


class Slow(NoModel):
    """Takes its time for each frame."""

    def __init__(self, encode_s: float = 0.0, label_s: float = 0.0) -> None:
        self.encode_s, self.label_s = encode_s, label_s
        self.encoded = 0

    def encode(self, pixels: Any) -> Any:
        time.sleep(self.encode_s)
        self.encoded += 1
        return super().encode(pixels)

    def label(self, encoded: Any, score_filter: Any = None) -> Any:
        time.sleep(self.label_s)
        return super().label(encoded)


class FakeCamera:
    """Stands for a camera: a frame every interval, whose upper left pixel is its number."""

    def __init__(self, interval_s: float, count: int = 10**9) -> None:
        self.interval_s, self.count = interval_s, count
        self.closed = threading.Event()

    def __call__(self, opening: Any, name: str, stopped: threading.Event, *, retries: Any) -> Iterator[Any]:
        try:
            for index in range(self.count):
                pixels = np.full((4, 4, 3), index % 256, np.uint8)
                yield SourceFrame(lambda pixels=pixels: pixels, index, index * self.interval_s, live=True)
                if stopped.wait(self.interval_s):
                    break
        finally:
            self.closed.set()


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    camera = FakeCamera(0.002)
    monkeypatch.setattr(sources, "live_frames", camera)
    return camera


def test_a_live_source_gives_its_newest_frames_and_counts_the_others(camera: FakeCamera) -> None:
    indices = []
    with opened(0, segmenter=Slow(encode_s=0.02)) as stream:
        for frame in stream:
            assert isinstance(frame, Frame)
            assert frame.result.image[0, 0, 0] == frame.index % 256
            indices.append(frame.index)
            if len(indices) == 20:
                break
        assert stream.dropped > 0
        # Every frame before the last was either given or dropped.
        assert frame.dropped + len(indices) == frame.index + 1
    assert indices == sorted(set(indices))
    assert camera.closed.is_set()


def test_frames_of_a_file_are_never_dropped(clip: Path) -> None:
    assert [frame.index for frame in frames_of(clip, segmenter=Slow(0.005, 0.005))] == list(range(12))


def test_a_file_s_end_does_not_end_a_camera(camera: FakeCamera, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", pictures(3))
    with opened(["0", str(tmp_path / "a.mp4")]) as stream:
        seen = [next(stream) for _ in range(20)]
    numbers = [frame.source_number for frame in seen if isinstance(frame, Frame)]
    assert numbers.count(1) == 3
    assert numbers.count(0) == 17


def test_few_frames_are_in_memory() -> None:
    alive = 0
    most = 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def images() -> Iterator[Any]:
        for pixels in pictures(60):
            array = pixels.copy()
            keeper = Counted()
            weakref.finalize(array, lambda keeper=keeper: None)
            del keeper
            yield array
            del array

    for _ in opened(images(), segmenter=Slow(label_s=0.001)):
        time.sleep(0.001)
    gc.collect()
    assert most <= 12


def test_reading_encoding_and_labelling_happen_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=60)

    class Meeting(NoModel):
        calls = 0
        met = False

        def encode(self, pixels: Any) -> Any:
            self.calls += 1
            if self.calls == 2:
                meeting.wait()
            return super().encode(pixels)

        def label(self, encoded: Any, score_filter: Any = None) -> Any:
            if not self.met:
                self.met = True
                meeting.wait()
            return super().label(encoded)

    class Waiting:
        """An image that is read when the two others are at work."""

        def read(self, size: int = -1, /) -> bytes:
            meeting.wait()
            raise OSError("no picture")

    one, two = pictures(2)
    outcomes = outcomes_of([one, two, Waiting()], segmenter=Meeting())
    assert [type(found) for found in outcomes] == [Frame, Frame, ImageError]


def no_more_than(before: set[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
        assert not thread.is_alive(), thread


def files_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


@pytest.mark.parametrize("ending", ["close", "with", "break", "forget", "error", "interrupt"])
def test_an_early_end_releases_everything(ending: str, clip: Path, camera: FakeCamera) -> None:
    before, files = set(threading.enumerate()), files_open()
    stream = opened([str(clip), "0"])
    assert isinstance(next(stream), Frame)
    if ending == "close":
        stream.close()
        assert list(stream) == []
    elif ending == "with":
        with stream:
            pass
    elif ending == "break":
        for _ in stream:
            break
        del stream, _
    elif ending == "forget":
        del stream
    else:
        kind: type[BaseException] = KeyboardInterrupt if ending == "interrupt" else ZeroDivisionError
        with pytest.raises(kind), stream:
            raise kind
    gc.collect()
    assert camera.closed.wait(timeout=60)
    no_more_than(before)
    assert files_open() == files


def test_a_frame_taken_while_another_thread_closes_the_stream_is_the_end() -> None:
    closing, go_on = threading.Event(), threading.Event()

    def frames() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            closing.set()
            assert go_on.wait(timeout=60)

    sources: Any = SimpleNamespace(close=lambda: None, dropped=0)
    stages: Any = None
    stream = FrameStream(sources, stages, frames())
    assert next(stream) == 1
    closer = threading.Thread(target=stream.close)
    closer.start()
    assert closing.wait(timeout=60)
    threading.Timer(0.05, go_on.set).start()
    assert list(stream) == []
    closer.join(timeout=60)
    assert not closer.is_alive()


def test_a_stream_is_closed_from_another_thread_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(3600)
    monkeypatch.setattr(sources, "live_frames", camera)
    before = set(threading.enumerate())
    stream = opened(0)
    assert isinstance(next(stream), Frame)
    threading.Timer(0.05, stream.close).start()
    assert list(stream) == []
    assert camera.closed.wait(timeout=60)
    no_more_than(before)


def test_a_stream_that_was_never_begun_opens_nothing(clip: Path) -> None:
    before = set(threading.enumerate())
    opened(clip).close()
    opened(0).close()
    assert set(threading.enumerate()) == before


def test_an_engine_that_fails_is_an_error_in_its_place(clip: Path) -> None:
    class Failing(NoModel):
        calls = 0

        def label(self, encoded: Any, score_filter: Any = None) -> Any:
            self.calls += 1
            if self.calls == 3:
                raise BackendError("out of memory")
            return super().label(encoded)

    outcomes = outcomes_of(clip, segmenter=Failing())
    assert [str(found) for found in outcomes if isinstance(found, T2DError)] == [f"frame 2 of {clip}: out of memory"]
    assert len(outcomes) == 12
    with pytest.raises(BackendError, match="out of memory"):
        frames_of(clip, segmenter=Failing())


def test_a_fault_of_the_program_is_raised_whatever_errors_says(clip: Path) -> None:
    class Faulty(NoModel):
        def label(self, encoded: Any, score_filter: Any = None) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        outcomes_of(clip, segmenter=Faulty())


def test_sinks_get_each_frame_before_it_is_given_and_their_errors_end_the_stream(clip: Path) -> None:
    class Kept:
        def __init__(self, most: int) -> None:
            self.most = most
            self.frames: list[Frame] = []

        def write(self, frame: Frame) -> None:
            if len(self.frames) == self.most:
                raise OutputError("the disk is full")
            self.frames.append(frame)

    kept = Kept(99)
    for number, frame in enumerate(opened(clip, sinks=[kept]), start=1):
        assert kept.frames[number - 1] is frame
    assert len(kept.frames) == 12
    stream = opened(clip, sinks=[Kept(99), Kept(3)], errors="yield")
    assert [isinstance(next(stream), Frame) for _ in range(3)] == [True] * 3
    with pytest.raises(OutputError, match="the disk is full"):
        next(stream)


def test_without_pyav_the_command_that_installs_it_is_told(
    segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(
        MissingPackageError, match=r"av is not installed; in a checkout of .*: pip install '\.\[video\]'"
    ):
        segmenter.stream(clip, classes)
    assert len(list(segmenter.stream(pictures(2), classes))) == 2
