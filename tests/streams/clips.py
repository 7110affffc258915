"""Clips made by PyAV, and the pixels that a stream gives of a source, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from t2d_runtime import T2DError
from t2d_runtime.errors import OptionError
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.kinds import sources_of
from t2d_runtime.streams.running import stream_frames
from t2d_runtime.streams.settings import split_options
from t2d_runtime.streams.stream import FrameStream

SIZE = (48, 64)
SETTINGS = SegmentationSettings(
    background=False,
    cleaning=None,
    threshold=0.5,
    cleaning_weight=1.0,
    refine=None,
    window="slide",
    backend="none",
    precision="fp32",
)


def pictures(count: int, size: tuple[int, int] = SIZE) -> list[NDArray[np.uint8]]:
    """Smooth coloured pictures that move: they survive lossy coding, and no two are alike."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [127 + 100 * np.sin((columns + 4 * step) / 9 + np.arange(3)[:, None, None]) for step in range(count)]
    return [(wave * (0.6 + 0.4 * rows / size[0])).transpose(1, 2, 0).astype(np.uint8) for wave in waves]


def write_clip(
    path: Path | BytesIO,
    frames: Iterable[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    format: str | None = None,
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    times: Sequence[float] | None = None,
    sound: str | None = None,
    options: dict[str, str] | None = None,
    **stream_attributes: Any,
) -> Any:
    """Write a clip; `times` in seconds make its rate vary. Returns the path."""
    with av.open(str(path) if isinstance(path, Path) else path, "w", format=format) as container:
        stream: Any = None
        audio = container.add_stream(sound, rate=48000) if sound else None
        for index, pixels in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options or {})
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = pix_fmt
                if times is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
                for name, value in stream_attributes.items():
                    setattr(stream, name, value)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[index]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
        if audio is not None:
            write_sound(container, audio, 0.04 * (index + 1 if stream is not None else 25))
    return path


def write_sound(container: Any, stream: Any, seconds: float) -> None:
    samples = np.sin(np.arange(int(48000 * seconds)) / 20).astype(np.float32)
    resampler = av.AudioResampler(stream.codec_context.format, stream.codec_context.layout, 48000, frame_size=1024)
    frame = av.AudioFrame.from_ndarray(np.stack([samples, samples]), "fltp", "stereo")
    frame.sample_rate, frame.pts = 48000, 0
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode())


class NoModel:
    """A segmenter that labels nothing, for tests of what comes before and after it."""

    encoding_key = None

    def encode(self, pixels: NDArray[np.uint8]) -> Segmentation:
        return Segmentation(pixels, np.zeros(pixels.shape[:2], np.uint8), ("thing",), None, SETTINGS)

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def label(self, encoded: Any, score_filter: Any = None) -> Segmentation:
        result: Segmentation = encoded
        return result

    def with_classes(self, classes: Any, options: Any) -> Any:
        raise OptionError("there are no words")


def opened(source: Any, errors: Any = "raise", segmenter: Any = None, **options: Any) -> FrameStream[Frame | T2DError]:
    given = sources_of(source)
    settings, _ = split_options(options, given, errors)  # type: ignore[arg-type]
    return stream_frames(given, segmenter or NoModel(), settings, errors)


def frames_of(source: Any, **options: Any) -> list[Frame]:
    """All frames of a source. Raises its errors."""
    return [frame for frame in opened(source, **options) if isinstance(frame, Frame)]


def outcomes_of(source: Any, **options: Any) -> list[Frame | T2DError]:
    """All frames of a source, and the errors in their places."""
    return list(opened(source, errors="yield", **options))


def decoded(path: Path | BytesIO, **options: Any) -> list[NDArray[np.uint8]]:
    """The frames of a clip as PyAV alone gives them."""
    with av.open(str(path) if isinstance(path, Path) else path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
