"""Interface of sinks."""

from __future__ import annotations

from typing import Protocol

from t2d_runtime.streams.frames import Frame


class Sink(Protocol):
    """Takes the frames of a stream, one at a time, from one thread."""

    def write(self, frame: Frame) -> None:
        """Write one frame. Raises OutputError, which ends the stream."""
