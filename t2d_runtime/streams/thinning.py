"""Leaves out frames of a source before they are converted: every N-th, or at most so many a second."""

from __future__ import annotations

from contextlib import closing

from t2d_runtime.streams.files import Found
from t2d_runtime.streams.frames import SourceFrame

ROUNDING_S = 1e-3
"""Seconds by which a frame may come too early: Matroska rounds its time stamps to milliseconds."""


def thinned(frames: Found, *, every: int, max_fps: float | None) -> Found:
    """The frames whose index is a multiple of `every`, and of these at most `max_fps` in a second.

    Frames without a time, and errors, are all kept. When the time goes back, as at the next file, it begins anew.
    """
    interval = 0.0 if max_fps is None else 1 / max_fps
    due = last = float("-inf")
    with closing(frames):
        for frame in frames:
            if isinstance(frame, SourceFrame):
                if frame.index % every:
                    continue
                if max_fps is not None and frame.time_s is not None:
                    if frame.time_s < last:
                        due = float("-inf")
                    last = frame.time_s
                    if frame.time_s < due - ROUNDING_S:
                        continue
                    # From the time that was due, so that the mean rate is right; unless the source is slower.
                    due = due + interval if due + interval > frame.time_s else frame.time_s + interval
            yield frame
            del frame
