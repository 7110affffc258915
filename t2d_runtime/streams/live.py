"""Live sources: cameras of this machine and of the network, which are opened again when they went away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from t2d_runtime.errors import ImageError, T2DError
from t2d_runtime.streams.containers import reason, video_module, video_stream
from t2d_runtime.streams.deinterlacing import Deinterlacer
from t2d_runtime.streams.files import Found
from t2d_runtime.streams.frames import SourceFrame
from t2d_runtime.streams.pixels import FrameConverter, sample_aspect_ratio_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses before a live source is opened again: each is twice as long as the one before."""

Opening = Callable[[], AbstractContextManager["InputContainer"]]


def live_frames(opening: Opening, name: str, stopped: threading.Event, *, retries: int | None) -> Found:
    """Frames of a live source until `stopped`; times are seconds since the first frame.

    When it went away it is opened again, after growing pauses, `retries` times in a row (None: without end). A source
    that cannot be opened the first time is an error at once. Frames that arrive damaged are left out.
    """
    index, tries, began = 0, 0, 0.0
    while not stopped.is_set():
        ending, failed = "it ended", False
        try:
            with opening() as container:
                stream = video_stream(container, name, live=True)
                convert = FrameConverter(name)
                connected = time.monotonic()
                for frame, elapsed_s in _decoded(container, stream, name, stopped):
                    if elapsed_s == 0.0:  # the first frame of this connection
                        connected = time.monotonic()
                        began = connected if index == 0 else began
                    time_s = connected - began + elapsed_s
                    aspect = sample_aspect_ratio_of(frame, stream)
                    yield SourceFrame(partial(convert, frame), index, time_s, sample_aspect_ratio=aspect, live=True)
                    index, tries = index + 1, 0
                    del frame
        except T2DError as error:
            if index == 0:
                yield error
                return
            ending, failed = str(error).removeprefix(f"{name}: "), True
        if stopped.is_set():
            return
        if tries == retries:
            if failed:
                again = f"; it was tried again {tries} times" if tries else ""
                yield ImageError(f"{name} went away after frame {index - 1}: {ending}{again}")
            return
        pause = min(FIRST_PAUSE_S * 2**tries, LONGEST_PAUSE_S)
        logger.warning("%s went away: %s; trying again in %.0f s", name, ending, pause)
        stopped.wait(pause)
        tries += 1


def _decoded(
    container: InputContainer, stream: VideoStream, name: str, stopped: threading.Event
) -> Generator[tuple[VideoFrame, float], None, None]:
    """Frames of one connection, each with the seconds since the first, for which they are 0. Raises ImageError."""
    av = video_module()
    arrived, first_s, elapsed_s = 0.0, None, -1.0
    deinterlace = Deinterlacer()
    try:
        for packet in container.demux(stream):
            if stopped.is_set():
                return
            try:
                frames = [found for frame in packet.decode() for found in deinterlace(frame)]
            except (av.FFmpegError, ValueError) as error:
                logger.debug("%s: a damaged packet: %s", name, error)
                continue
            for frame in frames:
                stamp_s = None if frame.pts is None else float(frame.pts * (frame.time_base or 0))
                if elapsed_s < 0:
                    arrived, first_s, elapsed_s = time.monotonic(), stamp_s, 0.0
                else:
                    told_s = time.monotonic() - arrived if stamp_s is None or first_s is None else stamp_s - first_s
                    elapsed_s = max(elapsed_s, told_s, 1e-6)  # a camera's clock may be set back
                yield frame, elapsed_s
            del frames
    except (av.FFmpegError, OSError) as error:
        raise ImageError(f"{name}: {reason(error)}") from error
