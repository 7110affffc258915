"""A live source with its masks: one stream for all who look, and words that change between frames."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import Any

from t2d_runtime.errors import T2DError
from t2d_runtime.image.windows import size_of
from t2d_runtime.results.label_map import label_counts
from t2d_runtime.results.options import SegmentOptions
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.results.visualize import label_colours
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.serving.live_source import LiveSource
from t2d_runtime.serving.metrics import Metrics
from t2d_runtime.serving.queue import Queue
from t2d_runtime.serving.queued_frames import QueuedFrames
from t2d_runtime.serving.viewers import Viewers
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.live import FIRST_PAUSE_S, LONGEST_PAUSE_S
from t2d_runtime.streams.running import stream_frames
from t2d_runtime.streams.stream import FrameStream
from t2d_runtime.words.class_list import NEGATIVE
from t2d_runtime.words.vocabulary import ClassEmbeddings

logger = logging.getLogger(__name__)

LINGER_S = 3.0
"""Time for which the source stays open when nobody looks any more: a page that is loaded again finds it."""

END_S = 5.0
"""Longest wait for the source when the server ends."""

QUALITY = 85
"""Quality of the JPEG pictures, high enough for thin contours."""

RATE_FRAMES = 20
"""Newest frames of which the rate is told."""

FAULT = "the server could not segment a frame; its log says why"


@dataclass(frozen=True)
class _Seen:
    """Newest state of the source. Replaced as a whole, so that any thread may read it."""

    state: str = "idle"
    """idle: nobody looks; opening; live: frames come; away: it went away, and is opened again after a pause."""
    problem: str | None = None
    frames: int = 0
    dropped: int = 0
    """Frames dropped in the streams before this one."""
    size: tuple[int, int] = (0, 0)
    labels: tuple[dict[str, Any], ...] = ()


class Live:
    """A live source that is segmented while somebody looks. Used from the event loop, but for its own thread."""

    def __init__(
        self,
        source: LiveSource,
        classes: ClassEmbeddings,
        segmenter: Segmenter,
        *,
        queue: Queue,
        metrics: Metrics,
        most_viewers: int,
    ) -> None:
        self.source = source
        self.viewers = Viewers(most_viewers, self._count)
        self._segmenter, self._metrics = segmenter, metrics
        self._lock = threading.Lock()
        """Held where words or stream change, and where the thread begins or ends."""
        self._frames = QueuedFrames(segmenter, classes, segmenter.check_options(classes), {}, queue)
        self._version = 1
        self._stream: FrameStream[Frame | T2DError] | None = None
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        """Set to end a pause."""
        self._linger_until = 0.0
        self._seen = _Seen(size=source.size)
        self._times: deque[float] = deque(maxlen=RATE_FRAMES)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the newest frame."""
        return self._seen.size

    def set_words(self, classes: ClassEmbeddings, options: SegmentOptions) -> None:
        """Look for other words from the next frame on. Raises the errors of `segment` for options and classes."""
        with self._lock:
            self._frames = self._frames.with_classes(classes, options)
            self._version += 1
            if self._stream is not None:
                self._stream.set_classes(classes, **options)

    def info(self) -> dict[str, Any]:
        """Words, rate, drops and state, for clients."""
        with self._lock:
            seen, frames, version, stream = self._seen, self._frames, self._version, self._stream
        height, width = seen.size
        return {
            "source": self.source.name,
            "state": seen.state,
            "problem": seen.problem,
            "viewers": len(self.viewers),
            "height": height,
            "width": width,
            "frames": seen.frames,
            "dropped": seen.dropped + (0 if stream is None else stream.dropped),
            "frames_per_s": self._rate() if seen.state == "live" else 0.0,
            "version": version,
            "words": self._described(frames),
            "labels": list(seen.labels),
        }

    def end(self) -> None:
        """Let all viewers' answers end, and free the source."""
        self.viewers.end()
        self._close()

    def join(self) -> None:
        """Wait for the source's end, a few seconds at most."""
        thread = self._thread
        if thread is not None:
            thread.join(END_S)

    def _described(self, frames: QueuedFrames) -> dict[str, Any]:
        classes = frames.classes
        phrases: dict[str, list[str]] = {name: [] for name in classes.names}
        negatives: list[str] = []
        for phrase, index in zip(classes.all_phrases, classes.classes_of_rows, strict=True):
            (negatives if index == NEGATIVE else phrases[classes.names[index]]).append(phrase)
        settings = asdict(frames.settings)
        del settings["backend"], settings["precision"]
        return {"classes": phrases, "negatives": negatives, "thresholds": dict(classes.thresholds), **settings}

    def _rate(self) -> float:
        """Frames a second of the newest ones; less where none has come for a while."""
        times = tuple(self._times)
        if len(times) < 2:
            return 0.0
        spacing = (times[-1] - times[0]) / (len(times) - 1)
        return round(1 / max(spacing, time.monotonic() - times[-1], 1e-3), 1)

    def _count(self, number: int) -> None:
        """Begin with the first viewer, and end some time after the last one."""
        self._metrics.viewers.set(number)
        if number == 0:
            self._linger_until = time.monotonic() + LINGER_S
            asyncio.get_running_loop().call_later(LINGER_S, self._close_if_alone)
            return
        self._woken.set()  # a source that is away is tried at once
        with self._lock:
            if self._thread is None and not self.viewers.ended:
                self._thread = threading.Thread(target=self._work, name="t2d live", daemon=True)
                self._thread.start()

    def _wanted(self) -> bool:
        looked_at = len(self.viewers) > 0 or time.monotonic() < self._linger_until
        return looked_at and not self.viewers.ended

    def _close_if_alone(self) -> None:
        if not self._wanted():
            self._close()

    def _close(self) -> None:
        """End the stream, in a thread: a source may take a while. Its own thread then ends, or opens it again."""
        self._woken.set()
        stream = self._stream
        if stream is not None:
            threading.Thread(target=stream.close, name="t2d live end", daemon=True).start()

    def _work(self) -> None:
        """Show the source while somebody looks. Where it ended or went away, it is opened again."""
        pause_s = FIRST_PAUSE_S
        while (stream := self._opened()) is not None:
            begun, before = time.monotonic(), self._seen.frames
            try:
                self._show(stream)
            except Exception:  # a thread that ended here would leave everybody waiting
                logger.exception("%s: a fault", self.source.given.name)
                self._tell(FAULT)
            went_away = self._ended(stream).problem is not None
            if self._seen.frames > before:
                pause_s = FIRST_PAUSE_S
            # A video that ended, or a camera that hung up, begins again at once, but not all the time.
            self._woken.wait(pause_s if went_away else max(0.0, begun + FIRST_PAUSE_S - time.monotonic()))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if went_away else FIRST_PAUSE_S

    def _ended(self, stream: FrameStream[Frame | T2DError]) -> _Seen:
        with self._lock:
            self._stream, seen = None, self._seen
            state = "opening" if seen.problem is None else "away"
            self._seen = replace(seen, state=state, dropped=seen.dropped + stream.dropped)
            return self._seen

    def _opened(self) -> FrameStream[Frame | T2DError] | None:
        """A new stream; None where nobody looks, and the thread ends."""
        with self._lock:
            self._woken.clear()
            if not self._wanted():
                self._thread = None
                self._seen = replace(self._seen, state="idle", problem=None, labels=())
                self.viewers.publish({})
                return None
            if self._seen.state == "idle":
                self._seen = replace(self._seen, state="opening")
            self._stream = stream_frames([self.source.given], self._frames, self.source.settings, "yield")
            return self._stream

    def _show(self, stream: FrameStream[Frame | T2DError]) -> None:
        with stream:
            for found in stream:
                if not self._wanted():
                    return
                if isinstance(found, T2DError):
                    if self._seen.problem is None:
                        logger.warning("%s", found)
                    self._tell(self.source.told(found))
                else:
                    self._show_frame(found.result)

    def _tell(self, problem: str) -> None:
        self._seen = replace(self._seen, problem=problem)

    def _show_frame(self, result: Segmentation) -> None:
        self.viewers.publish({legend: _jpeg(result, legend=legend) for legend in self.viewers.kinds})
        self._times.append(time.monotonic())
        self._metrics.live_frames.inc()
        frames = self._seen.frames + 1
        self._seen = replace(
            self._seen, state="live", problem=None, frames=frames, size=size_of(result.image), labels=_labels(result)
        )


def _jpeg(result: Segmentation, *, legend: bool) -> bytes:
    stream = io.BytesIO()
    result.overlay(legend=legend).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _labels(result: Segmentation) -> tuple[dict[str, Any], ...]:
    """Labels in the picture, the largest first: name, share of the pixels, and colour."""
    shares = label_counts(result.label_map, len(result.class_names)) / result.label_map.size
    colours = label_colours(len(result.class_names), background=result.has_background)
    return tuple(
        {"name": result.class_names[label], "share": round(float(shares[label]), 4), "colour": colours[label].tolist()}
        for label in (-shares).argsort(kind="stable")
        if shares[label] > 0
    )
