"""A video file of the labelled frames, with the sound of the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from t2d_runtime.errors import OptionError, OutputError, T2DError
from t2d_runtime.storage.own_files import TEXT_MARK, own_file, refuse_foreign
from t2d_runtime.storage.whole_file import cannot_write
from t2d_runtime.streams.containers import reason, video_module
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.sinks.sound import Sound
from t2d_runtime.streams.sinks.views import View, checked_view, drawn

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIME_BASE = Fraction(1, 90_000)
"""Unit of the time stamps written: that of MPEG, which rates of 24, 25, 30 and 30000/1001 divide."""

DEFAULT_FPS = 25.0


class _Encoding(NamedTuple):
    """A container, and how video and sound are coded in it."""

    format: str
    codec: str
    options: dict[str, str]
    sound_codec: str
    square_pixels: bool = False
    """True where PyAV cannot write the shape of pixels that are not square."""


_H264 = ("libx264", {"preset": "veryfast", "crf": "20"}, "aac")
ENCODINGS = {
    ".mp4": _Encoding("mp4", *_H264),
    ".m4v": _Encoding("mp4", *_H264),
    ".mov": _Encoding("mov", *_H264),
    ".mkv": _Encoding("matroska", *_H264),
    ".webm": _Encoding(
        "webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "30", "row-mt": "1"}, "libopus", True
    ),
}
"""Suffix of the file -> its encoding."""


class VideoSink:
    """Writes frames into a video file, which appears under its name when the sink is closed, whole and playable.

    That holds after an interrupt too: the file then ends with the last frame. Without a frame there is no file.
    `view`: the overlay, or the frame and its labels side by side. Frames keep their times; `fps` is the rate where the
    source has none. Pixels that are not square stay so; in WebM pictures are stretched instead. The sound of a video
    file is kept: copied where the container takes its codec, else coded again.
    Frames of another size than the first are scaled to fit, on black; odd sizes get one more row or column.
    Raises OptionError for a suffix other than those of ENCODINGS, and OutputError.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        view: View = "overlay",
        fps: float = DEFAULT_FPS,
        sound: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        encoding = ENCODINGS.get(self.path.suffix.lower())
        if encoding is None:
            raise OptionError(f"{self.path} is no name of a video that is written, expected {', '.join(ENCODINGS)}")
        if not 0 < fps <= 1000:
            raise OptionError(f"fps is {fps!r}, expected a number above 0 and up to 1000")
        self._encoding = encoding
        self._view = checked_view(view)
        self._fps = fps
        self._wants_sound = sound
        self._overwrite = overwrite
        self._open: _OpenVideo | None = None
        self._stack = ExitStack()
        video_module()
        refuse_foreign(self.path, overwrite=overwrite)

    def write(self, frame: Frame) -> None:
        """Add a frame."""
        picture, aspect = drawn(frame.result, self._view), frame.sample_aspect_ratio
        if aspect != 1 and self._encoding.square_pixels:
            picture, aspect = stretched(picture, aspect), Fraction(1)
        with self._writing():
            if self._open is None:
                self._open = self._opened(frame, picture, aspect)
            self._open.add(picture, frame.time_s)

    def close(self) -> None:
        """Write the end of the file and give it its name."""
        if self._open is not None:
            opened, self._open = self._open, None
            with self._writing():
                opened.finish()
                self._stack.close()

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self, frame: Frame, picture: NDArray[np.uint8], aspect: Fraction) -> _OpenVideo:
        file = self._stack.enter_context(own_file(self.path, overwrite=self._overwrite))
        container = video_module().open(file, "w", format=self._encoding.format)
        self._stack.callback(container.close)
        container.metadata["comment"] = TEXT_MARK
        source = _video_file(frame) if self._wants_sound else None
        return _OpenVideo(container, self._encoding, picture, aspect, self._fps, source)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """After a failure: removes the file, and says why. An interrupt is none: the file is then finished."""
        try:
            yield
        except Exception as error:
            self._open = None  # FFmpeg crashes where a container is used on after a failure
            with suppress(OSError, ValueError, video_module().FFmpegError):  # the container fails again
                self._stack.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, video_module().FFmpegError) and not isinstance(error, OSError):
                raise OutputError(f"cannot write {self.path}: {reason(error)}") from error
            if isinstance(error, OSError) and not isinstance(error, T2DError):
                raise cannot_write(self.path, error) from error
            raise


class _OpenVideo:
    """A container that is being written."""

    def __init__(
        self,
        container: Any,
        encoding: _Encoding,
        picture: NDArray[np.uint8],
        sample_aspect_ratio: Fraction,
        fps: float,
        source: Path | None,
    ) -> None:
        av = video_module()
        self._container = container
        self._interval = max(1, round(1 / (fps * TIME_BASE)))
        self._next, self._first_s = 0, None
        height, width = picture.shape[:2]
        self._size = (height + height % 2, width + width % 2)
        if encoding.codec not in av.codecs_available:
            raise OutputError(f"this FFmpeg cannot write {encoding.codec}; install the wheel of PyAV from PyPI")
        self._stream = container.add_stream(encoding.codec, rate=Fraction(fps).limit_denominator(1001))
        self._stream.options = dict(encoding.options)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = TIME_BASE
        if sample_aspect_ratio != 1:
            context.sample_aspect_ratio = sample_aspect_ratio
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._sound = None if source is None else Sound.of(source, container, encoding.sound_codec)

    _first_s: float | None

    def add(self, picture: NDArray[np.uint8], time_s: float | None) -> None:
        """Add a picture at its time, or one interval after the one before."""
        av = video_module()
        colours = av.video.reformatter
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(fitted(picture, self._size), "rgb24"),
            format="yuv420p",
            dst_colorspace=colours.Colorspace["ITU709"],
            dst_color_range=_LIMITED,
        )
        stamp = self._next
        if time_s is not None:
            if self._first_s is None:
                self._first_s = time_s
            stamp = max(stamp if stamp == 0 else self._last + 1, round((time_s - self._first_s) / TIME_BASE))
        frame.pts, frame.time_base = stamp, TIME_BASE
        self._last, self._next = stamp, stamp + self._interval
        if self._sound is not None:
            self._sound.copy_until(float(stamp * TIME_BASE), self._first_s or 0.0)
        self._container.mux(self._stream.encode(frame))

    _last = 0

    def finish(self) -> None:
        """Write what the encoder still holds, and the sound up to the last frame's end."""
        self._container.mux(self._stream.encode())
        if self._sound is not None:
            self._sound.copy_until(float(self._next * TIME_BASE), self._first_s or 0.0)
            self._sound.finish()


def _video_file(frame: Frame) -> Path | None:
    """The video file whose frames alone are the source; None for pictures, which have no times, and other sources."""
    if frame.file is None or frame.time_s is None or Path(frame.file) != Path(frame.source):
        return None
    return Path(frame.file)


_BT709, _LIMITED = 1, 1
"""FFmpeg's numbers of the colours of high definition, and of the range 16 to 235, that players expect."""


def stretched(picture: NDArray[np.uint8], aspect: Fraction) -> NDArray[np.uint8]:
    """A picture (H,W,3) with square pixels, as high as before."""
    from PIL import Image

    height, width = picture.shape[:2]
    return np.asarray(
        Image.fromarray(picture).resize((max(1, round(width * aspect)), height), Image.Resampling.BILINEAR)
    )


def fitted(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (H,W,3) at another size: with one more row or column, or scaled to fit, on black."""
    from PIL import Image

    height, width = picture.shape[:2]
    if (height, width) == size:
        return np.ascontiguousarray(picture)
    if 0 <= size[0] - height <= 1 and 0 <= size[1] - width <= 1:
        return np.pad(picture, ((0, size[0] - height), (0, size[1] - width), (0, 0)), mode="edge")
    scale = min(size[0] / height, size[1] / width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("RGB", (size[1], size[0]))
    scaled = Image.fromarray(picture).resize(inner, Image.Resampling.BILINEAR)
    canvas.paste(scaled, ((size[1] - inner[0]) // 2, (size[0] - inner[1]) // 2))
    return np.asarray(canvas)
