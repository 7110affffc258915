"""A camera made of pictures, for measures of live sources: its frames come at a fixed rate, taken or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.streams.files import Found
from t2d_runtime.streams.frames import SourceFrame


@contextmanager
def connected(images: Sequence[NDArray[np.uint8]], fps: float) -> Iterator[dict[int, float]]:
    """Stands for every camera in the block. Gives the times (monotonic) at which its frames came, by their index."""
    came: dict[int, float] = {}

    def frames(opening: Any, name: str, stopped: threading.Event, *, retries: int | None) -> Found:
        start = time.monotonic()
        index = 0
        while not stopped.wait(max(0.0, start + index / fps - time.monotonic())):
            pixels = images[index % len(images)]
            came[index] = time.monotonic()
            yield SourceFrame(lambda pixels=pixels: pixels, index, index / fps, live=True)  # type: ignore[misc]
            index += 1

    with mock.patch("t2d_runtime.streams.sources.live_frames", frames):
        yield came
