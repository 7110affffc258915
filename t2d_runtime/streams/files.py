"""Sources that are one file: a picture or a video."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from t2d_runtime.errors import ImageError, T2DError
from t2d_runtime.image.reading import ImageLike, load_image
from t2d_runtime.streams.containers import opened_file, reason, video_module, video_stream
from t2d_runtime.streams.deinterlacing import Deinterlacer
from t2d_runtime.streams.frames import SourceFrame
from t2d_runtime.streams.pixels import FrameConverter, sample_aspect_ratio_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Found = Generator[SourceFrame | T2DError, None, None]
"""Frames of a source in order; an error takes the place of a frame that cannot be read. Closing it frees the source."""

MISSING_S = 0.5
"""Seconds of a video that may be missing at its end before that is an error: time stamps are rounded."""


def picture_frames(image: ImageLike, file: str | None = None) -> Found:
    """The one frame of a picture, in any form that `load_image` takes."""
    yield SourceFrame(partial(load_image, image), 0, None, file)


def video_frames(path: Path) -> Found:
    """All frames of a video file, in the order they are shown, with times from its time stamps.

    A damaged frame, and a file that ends early, are errors in their place.
    """
    name = str(path)
    try:
        with opened_file(path, name) as container:
            yield from decoded_frames(container, name, file=name)
    except T2DError as error:
        yield error


def decoded_frames(container: InputContainer, name: str, *, file: str | None) -> Found:
    """Frames of an open container that ends. Raises ImageError where it holds no video."""
    av = video_module()
    stream = video_stream(container, name, live=False)
    # FFmpeg would make up time stamps where a format such as AVI has none, in the order of decoding.
    container.flags &= ~av.container.Flags.gen_pts.value
    clock = Clock(stream, container)
    convert, deinterlace = FrameConverter(name), Deinterlacer()
    index, time_s, failed = 0, 0.0, False
    try:
        for packet in container.demux(stream):
            clock.see(packet)
            try:
                frames = [found for frame in packet.decode() for found in deinterlace(frame)]
                if not packet.size:  # the last one, which empties the decoder
                    frames += deinterlace.rest()
            except av.EOFError:
                continue
            except (av.FFmpegError, ValueError) as error:
                if not failed:  # one error for a run of damaged packets
                    yield ImageError(f"{name}: frame {index} is damaged: {reason(error)}")
                failed = True
                continue
            for frame in frames:
                time_s = clock.time_of(frame)
                aspect = sample_aspect_ratio_of(frame, stream)
                yield SourceFrame(partial(convert, frame), index, time_s, file, aspect)
                index, failed = index + 1, False
            del frames
    except (av.FFmpegError, OSError) as error:
        yield ImageError(f"{name} cannot be read after frame {index - 1}: {reason(error)}")
        return
    if failed:  # told
        return
    if index == 0:
        yield ImageError(f"{name} holds no frame that can be decoded")
    elif clock.end_s is not None and clock.end_s - clock.seen_s > MISSING_S:
        yield ImageError(f"{name} ends early, after {clock.seen_s:.2f} of {clock.end_s:.2f} s; it may have been cut")


class Clock:
    """Times of a container's frames, in seconds since it begins."""

    def __init__(self, stream: VideoStream, container: InputContainer) -> None:
        self._start_s: float | None = None if container.start_time is None else container.start_time / 1_000_000
        rate = stream.average_rate or stream.guessed_rate
        self.interval_s = float(1 / rate) if rate else 0.04
        """Seconds from one frame to the next, where the frames have no time stamps."""
        self.seen_s = 0.0
        """Seconds that it lasted so far: to the end of the last frame, which may be held for long."""
        self._duration_s, self._last_stamp_s = _told_duration(stream), _told_end(stream)
        self._last_s: float | None = None

    @property
    def end_s(self) -> float | None:
        """Seconds that the video should last, where the container says it of the video itself."""
        if self._last_stamp_s is not None:
            return self._last_stamp_s - (self._start_s or 0.0)
        return self._duration_s

    def see(self, packet: Packet[VideoStream]) -> None:
        """Note the end of a packet's frame, whether it can be decoded or not."""
        if packet.pts is not None and packet.time_base is not None:
            if self._start_s is None:
                self._start_s = float(packet.pts * packet.time_base)
            end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._start_s
            self.seen_s = max(self.seen_s, end_s)

    def time_of(self, frame: VideoFrame) -> float:
        """Seconds since the beginning. Without a later time stamp, one interval after the frame before."""
        time_s = None
        if frame.pts is not None and frame.time_base is not None:
            time_s = float(frame.pts * frame.time_base) - (self._start_s or 0.0)
        if self._last_s is not None and (time_s is None or time_s <= self._last_s):
            time_s = self._last_s + self.interval_s
        self._last_s = time_s or 0.0
        self.seen_s = max(self.seen_s, self._last_s + self.interval_s)
        return self._last_s


def _told_duration(stream: VideoStream) -> float | None:
    if stream.container.format.name == "avi":  # its duration is guessed from the file's size
        return float(stream.frames / stream.average_rate) if stream.frames and stream.average_rate else None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None


def _told_end(stream: VideoStream) -> float | None:
    """The time stamp at which a video in Matroska ends. It may begin at another than 0."""
    try:
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except (KeyError, ValueError):
        return None


def told_frames(path: Path, every: int, max_fps: float | None) -> int | None:
    """The number of frames that a video file says it has, of those that are segmented; None where it does not say."""
    try:
        with opened_file(path, str(path)) as container:
            stream = video_stream(container, str(path), live=False)
            seconds, rate = Clock(stream, container).end_s, stream.average_rate
            count = stream.frames or (round(seconds * float(rate)) if seconds and rate else 0)
    except ImageError:  # told when its frames are read
        return None
    if not count:
        return None
    count = -(-count // every)
    return count if max_fps is None or not seconds else min(count, 1 + int(seconds * max_fps))
