"""The sources of a stream, one or several at once, as one row of frames."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from t2d_runtime.errors import T2DError
from t2d_runtime.streams.address import address_frames
from t2d_runtime.streams.containers import opened_camera, opened_rtsp, video_module
from t2d_runtime.streams.feeds import DirectFeed, Feed, Nothing, ThreadFeed
from t2d_runtime.streams.files import Found, picture_frames, video_frames
from t2d_runtime.streams.folders import folder_files, listed_frames, pattern_files, watched_frames
from t2d_runtime.streams.frames import SourceFrame
from t2d_runtime.streams.images import image_frames
from t2d_runtime.streams.kinds import LIVE, PLAYED, GivenSource, Kind
from t2d_runtime.streams.live import live_frames
from t2d_runtime.streams.pacing import in_real_time
from t2d_runtime.streams.settings import StreamSettings
from t2d_runtime.streams.thinning import thinned


class Drawn(NamedTuple):
    """A frame, or the error in its place, and the number of its source."""

    number: int
    found: SourceFrame | T2DError
    dropped: int


class Sources:
    """The frames of several sources in turn, each in its own order. A source without a frame at hand is passed over.

    Sources that may keep the stream waiting have a thread each.
    """

    def __init__(self, given: Sequence[GivenSource], settings: StreamSettings) -> None:
        self.given = tuple(given)
        self._settings = settings
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._feeds: dict[int, Feed] = {}
        self._dropped = [0] * len(self.given)
        if any(source.kind in (Kind.VIDEO, Kind.URL, Kind.RTSP, Kind.CAMERA) for source in self.given):
            video_module()

    @property
    def live(self) -> bool:
        """True where a source may be live, or is played like one, so that frames must not wait."""
        return self._settings.realtime or any(source.kind in (Kind.URL, *LIVE) for source in self.given)

    @property
    def dropped(self) -> int:
        """Frames dropped so far, because newer ones came."""
        return sum(self._dropped) + sum(feed.dropped for feed in list(self._feeds.values()))

    def __iter__(self) -> Generator[Drawn, None, None]:
        with self._changed:
            if not self._stopped.is_set():
                self._feeds = {number: self._feed_of(source) for number, source in enumerate(self.given)}
        row = list(self._feeds)
        passed = 0
        while row and not self._stopped.is_set():
            number = row.pop(0)
            drawn, ended = self._take(number)
            if not ended:
                row.append(number)
            else:
                self._finish(number)
            if drawn is not None:
                passed = 0
                yield drawn
                del drawn
                continue
            passed = 0 if ended else passed + 1
            if row and passed >= len(row):
                self._wait(row)
                passed = 0

    def close(self) -> None:
        """Give no more frames and free all sources."""
        self._stopped.set()
        with self._changed:
            feeds = list(self._feeds.items())
            self._changed.notify_all()
        for _, feed in feeds:
            feed.close()

    def _take(self, number: int) -> tuple[Drawn | None, bool]:
        """The next frame of a source, if there is one, and whether the source has ended."""
        feed = self._feeds[number]
        if isinstance(feed, DirectFeed):
            taken = feed.take()
        else:
            with self._changed:
                taken = feed.take()
        if isinstance(taken, Nothing):
            return None, taken is Nothing.MORE
        return Drawn(number, taken, feed.dropped), False

    def _finish(self, number: int) -> None:
        feed = self._feeds.pop(number)
        feed.close()
        self._dropped[number] = feed.dropped

    def _wait(self, row: Sequence[int]) -> None:
        """Wait until a source has a frame, ends, or the stream is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped.is_set() or any(self._feeds[number].ready for number in row))

    def _feed_of(self, source: GivenSource) -> Feed:
        settings = self._settings

        def frames(stopped: threading.Event) -> Found:
            found = _frames_of(source, settings, stopped)
            found = thinned(found, every=settings.every, max_fps=settings.max_fps)
            return in_real_time(found, stopped) if settings.realtime and source.kind in PLAYED else found

        if (
            source.kind in (Kind.PICTURE, Kind.PATTERN)
            or (source.kind is Kind.VIDEO and not settings.realtime)
            or (source.kind is Kind.FOLDER and not settings.watch)
        ):
            return DirectFeed(frames(self._stopped))
        return ThreadFeed(frames, self._changed, self._stopped)


def _frames_of(source: GivenSource, settings: StreamSettings, stopped: threading.Event) -> Found:
    given, name, retries = source.given, source.name, settings.retries
    match source.kind:
        case Kind.PICTURE:
            return picture_frames(given, str(given) if isinstance(given, Path) else None)
        case Kind.VIDEO:
            return video_frames(given)
        case Kind.FOLDER:
            return (
                watched_frames(given, stopped) if settings.watch else listed_frames(partial(folder_files, given), name)
            )
        case Kind.PATTERN:
            return listed_frames(partial(pattern_files, given), name)
        case Kind.URL:
            return address_frames(given, name, stopped, retries=retries)
        case Kind.RTSP:
            return live_frames(partial(opened_rtsp, given, name), name, stopped, retries=retries)
        case Kind.CAMERA:
            return live_frames(partial(opened_camera, given, name), name, stopped, retries=retries)
        case Kind.IMAGES:
            return image_frames(given)
