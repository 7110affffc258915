"""Plays a video in real time: each frame when its time has come, as a camera would give it."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace

from t2d_runtime.streams.files import Found
from t2d_runtime.streams.frames import SourceFrame


def in_real_time(frames: Found, stopped: threading.Event) -> Found:
    """The frames at the speed of their times, until `stopped`. They count as live: newer ones take their place.

    Frames without a time, those that are live already, and errors are passed on at once.
    """
    start = last = None
    with closing(frames):
        for frame in frames:
            if isinstance(frame, SourceFrame) and frame.time_s is not None and not frame.live:
                if start is None or last is None or frame.time_s < last:
                    start = time.monotonic() - frame.time_s
                last = frame.time_s
                if stopped.wait(max(0.0, start + frame.time_s - time.monotonic())):
                    return
                frame = replace(frame, live=True)
            yield frame
            del frame
