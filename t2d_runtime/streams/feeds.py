"""Feeds: where the frames of one source wait until they are taken."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from enum import Enum, auto
from typing import Protocol

from t2d_runtime.errors import T2DError
from t2d_runtime.streams.files import Found
from t2d_runtime.streams.frames import SourceFrame

WAITING_FRAMES = 2
"""Frames of a source that is not live which wait to be taken."""

PATIENCE_S = 2.0
"""Longest wait for a source's thread when a stream is closed. One that hangs ends later, by its own time-out."""


class Nothing(Enum):
    """Reasons why a feed gives no frame."""

    YET = auto()
    MORE = auto()


Taken = SourceFrame | T2DError | Nothing


class Feed(Protocol):
    """Frames of one source."""

    dropped: int
    """Frames dropped so far, because newer ones came."""

    @property
    def ready(self) -> bool:
        """True where `take` would not say "not yet"."""

    def take(self) -> Taken:
        """The next frame, or the error in its place, or the reason why there is none. Raises an iterable's errors."""

    def close(self) -> None:
        """Give no more frames and free the source."""


class DirectFeed:
    """Frames that are read when they are asked for: files, which do not keep anybody waiting."""

    dropped = 0
    ready = True

    def __init__(self, frames: Found) -> None:
        self._frames = frames
        self._reading = threading.Lock()
        self._closed = False

    def take(self) -> Taken:
        """The next frame."""
        with self._reading:
            return Nothing.MORE if self._closed else next(self._frames, Nothing.MORE)

    def close(self) -> None:
        """Close the file, after the frame that is being read."""
        with self._reading:
            self._closed = True
            self._frames.close()


class ThreadFeed:
    """Frames that a thread reads as they come. Of a live source only the newest waits, and the others are dropped."""

    def __init__(
        self, frames: Callable[[threading.Event], Found], changed: threading.Condition, stopped: threading.Event
    ) -> None:
        self.dropped = 0
        self._changed = changed
        """Notified when there is a frame, or room for one."""
        self._stopped = stopped
        self._waiting: deque[SourceFrame | T2DError] = deque()
        self._ended = False
        self._failure: BaseException | None = None
        # Not waited for when Python exits: a camera may never send another frame.
        self._thread = threading.Thread(target=self._read, args=(frames,), daemon=True, name="t2d source")
        self._thread.start()

    @property
    def ready(self) -> bool:
        """True where there is a frame, a failure, or the end."""
        return bool(self._waiting) or self._ended or self._failure is not None

    def take(self) -> Taken:
        """The next frame, or the newest. The caller holds `changed`."""
        if self._waiting:
            self._changed.notify_all()
            return self._waiting.popleft()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return Nothing.MORE if self._ended else Nothing.YET

    def close(self) -> None:
        """End the thread, which frees the source. `stopped` is set already."""
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(PATIENCE_S)

    def _read(self, frames: Callable[[threading.Event], Found]) -> None:
        try:
            with closing(frames(self._stopped)) as found:
                for frame in found:
                    if not self._put(frame):
                        break
                    del frame
        except BaseException as error:  # noqa: BLE001  raised where the frames are taken
            self._failure = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, frame: SourceFrame | T2DError) -> bool:
        """Add a frame, once there is room, or in the place of an older one. False where the stream was closed."""
        with self._changed:
            if isinstance(frame, SourceFrame) and frame.live:
                frames = [waiting for waiting in self._waiting if isinstance(waiting, SourceFrame)]
                self.dropped += len(frames)
                for old in frames:
                    self._waiting.remove(old)
            while len(self._waiting) >= WAITING_FRAMES and not self._stopped.is_set():
                self._changed.wait()
            if self._stopped.is_set():
                return False
            self._waiting.append(frame)
            self._changed.notify_all()
            return True
