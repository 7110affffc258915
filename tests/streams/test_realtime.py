"""Videos that are played in real time, like a camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2d_runtime.errors import ImageError, OptionError
from t2d_runtime.streams import pacing
from t2d_runtime.streams.frames import Frame, SourceFrame
from tests.streams.clips import NoModel, opened, pictures, write_clip


class Clock:
    """A clock that goes on only where somebody waits; also the event that ends the wait."""

    def __init__(self, latest_s: float = float("inf")) -> None:
        self.now_s, self.latest_s = 100.0, latest_s

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return self.now_s > self.latest_s


def played(clock: Clock, monkeypatch: pytest.MonkeyPatch, found: list[Any], late_s: float = 0.0) -> list[Any]:
    """The frames with the time of the clock at which each came; each takes `late_s` to be decoded."""
    monkeypatch.setattr(pacing, "time", clock)

    def frames() -> Iterator[Any]:
        for frame in found:
            clock.now_s += late_s
            yield frame

    return [(clock.now_s, frame) for frame in pacing.in_real_time(frames(), clock)]  # type: ignore[arg-type]


def frame_at(time_s: float | None) -> SourceFrame:
    return SourceFrame(lambda: np.zeros((4, 4, 3), np.uint8), 0, time_s)


def test_frames_come_when_their_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [2.0, 2.5, 2.6, 4.0, 0.0, 0.5]  # the last two are of another file
    came = played(Clock(), monkeypatch, [frame_at(time_s) for time_s in times])
    assert [round(at_s - 100, 6) for at_s, _ in came] == [0, 0.5, 0.6, 2.0, 2.0, 2.5]
    assert all(frame.live for _, frame in came)


def test_a_decoder_that_is_late_is_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    came = played(Clock(), monkeypatch, [frame_at(0.1 * number) for number in range(4)], late_s=0.25)
    assert [round(at_s - 100, 6) for at_s, _ in came] == [0.25, 0.5, 0.75, 1.0]


def test_other_frames_and_errors_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [frame_at(None), replace(frame_at(5.0), live=True), ImageError("damaged")]
    assert played(Clock(), monkeypatch, given) == [(100.0, one) for one in given]


def test_a_wait_ends_with_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    came = played(Clock(latest_s=101.0), monkeypatch, [frame_at(0.0), frame_at(1.0), frame_at(3600.0)])
    assert len(came) == 2


def test_the_newest_frame_is_kept_and_the_last_one_given(clip: Path) -> None:
    class Held(NoModel):
        """Holds the first frame until others were dropped."""

        dropped = threading.Event()

        def encode(self, pixels: Any) -> Any:
            assert self.dropped.wait(60)
            return super().encode(pixels)

    model = Held()
    with opened(clip, segmenter=model, realtime=True) as stream:

        def watch() -> None:
            while stream.dropped < 3:
                time.sleep(0.005)
            model.dropped.set()

        watching = threading.Thread(target=watch)
        watching.start()
        frames = [frame for frame in stream if isinstance(frame, Frame)]
        watching.join()
        indices = [frame.index for frame in frames]
        assert indices[0] == 0
        assert indices[1] >= 4  # none that was dropped, nor one that waited behind the first
        assert indices[-1] == 11
        assert indices == sorted(set(indices))
        assert len(indices) + stream.dropped == 12
        assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in indices])


def test_an_early_end_does_not_wait_for_the_next_frame(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    slow = write_clip(tmp_path / "slow.mkv", pictures(3), times=[0.0, 3600.0, 7200.0], options={"bf": "0"})
    with opened(slow, realtime=True) as stream:
        assert isinstance(next(stream), Frame)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def test_realtime_needs_times(clip: Path) -> None:
    for source, value in ((pictures(2), True), (0, True), (clip, 1)):
        with pytest.raises(OptionError, match="realtime"):
            opened(source, realtime=value)
