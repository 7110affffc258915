"""Options of a stream: their names, checks and defaults."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from t2d_runtime.checks import checked_flag, checked_number, is_whole
from t2d_runtime.errors import OptionError
from t2d_runtime.results.options import SegmentOptions
from t2d_runtime.streams.kinds import PLAYED, TIMED, GivenSource, Kind

if TYPE_CHECKING:
    from t2d_runtime.streams.sinks.base import Sink

MOST_SMOOTHING = 0.999
"""Largest smoothing: a thousand frames."""

Errors = Literal["raise", "yield"]
"""Handling of a frame that cannot be read or segmented."""


class StreamOptions(SegmentOptions, total=False):
    """The options of `Segmenter.stream`: those of `segment`, and these. Each is off unless it is given."""

    watch: bool
    """Go on with each new file that comes into the folder. Default: False."""
    every: int
    """Segment every N-th frame. Default: 1."""
    max_fps: float | None
    """Segment at most this many frames of each second of the source."""
    realtime: bool
    """Play videos at the speed of their time stamps, as a camera gives its frames: those that come before the encoder
    is free are dropped and counted. Default: False, all frames as fast as they are segmented."""
    motion_threshold: float | None
    """Frames whose picture changed by less than this since the frame encoded last are not encoded again; their labels
    are that frame's. In levels of 255, for the mean colour of every block of 8 x 8 pixels at the working size; 4 is
    above the noise of most cameras."""
    smoothing: float
    """Share, from 0 to below 1, of the scores so far in a frame's scores: they are smoothed exponentially over time,
    along the motion of the picture, so that labels flicker less. Cuts begin anew. 0.9 and 0.95 serve well. Default: 0,
    off."""
    retries: int | None
    """Times in a row that a live source that went away is opened again. Default: None, without end."""
    sinks: Sequence[Sink]
    """Sinks that each frame is written to before it is given."""


@dataclass(frozen=True)
class StreamSettings:
    """The options of a stream, checked."""

    watch: bool = False
    every: int = 1
    max_fps: float | None = None
    realtime: bool = False
    motion_threshold: float | None = None
    smoothing: float = 0.0
    retries: int | None = None
    sinks: tuple[Sink, ...] = ()


def split_options(
    options: StreamOptions, sources: Sequence[GivenSource], errors: Errors
) -> tuple[StreamSettings, SegmentOptions]:
    """The stream's own settings, and the options of `segment`. Raises OptionError."""
    if errors not in get_args(Errors):
        raise OptionError(f"errors is {errors!r}, expected one of {list(get_args(Errors))}")
    names = {field.name for field in fields(StreamSettings)}
    own: dict[str, Any] = {name: value for name, value in options.items() if name in names}
    rest: Any = {name: value for name, value in options.items() if name not in names}
    settings = StreamSettings(**{**own, "sinks": _checked_sinks(own.get("sinks"))})
    _check(settings, own, {source.kind for source in sources})
    return settings, rest


def _check(settings: StreamSettings, given: dict[str, Any], kinds: set[Kind]) -> None:
    if checked_flag("watch", settings.watch) and kinds != {Kind.FOLDER}:
        raise OptionError("watch has no effect without a folder; leave it out, or give the folder")
    if not is_whole(settings.every, 1):
        raise OptionError(f"every is {settings.every!r}, expected a whole number from 1")
    if settings.max_fps is not None:
        checked_number("max_fps", settings.max_fps, 1000, above=0)
        if not kinds & set(TIMED):
            raise OptionError("max_fps has no effect on images without times; leave it out, or use every")
    if checked_flag("realtime", settings.realtime) and not kinds & set(PLAYED):
        raise OptionError("realtime has no effect without a video file or an address; leave it out")
    if settings.motion_threshold is not None:
        checked_number("motion_threshold", settings.motion_threshold, 255, above=0)
    if settings.smoothing != 0:
        checked_number("smoothing", settings.smoothing, MOST_SMOOTHING, above=0)
    if kinds == {Kind.PICTURE} and (settings.smoothing or settings.motion_threshold is not None):
        raise OptionError("smoothing and motion_threshold have no effect on pictures; leave them out")
    if settings.retries is not None and not is_whole(settings.retries, 0):
        raise OptionError(f"retries is {settings.retries!r}, expected a whole number from 0, or None for no end")
    if given.get("retries") is not None and not kinds & {Kind.CAMERA, Kind.RTSP, Kind.URL}:
        raise OptionError("retries has no effect without a live source; leave it out")


def _checked_sinks(sinks: Any) -> tuple[Sink, ...]:
    """The sinks given; None is none. Raises OptionError for anything but objects with `write` one after the other."""
    if sinks is None:
        return ()
    found = tuple(sinks) if isinstance(sinks, Iterable) else (None,)
    if not all(hasattr(sink, "write") for sink in found):
        raise OptionError(f"sinks is {sinks!r}, expected a list of objects with write(frame)")
    return found
