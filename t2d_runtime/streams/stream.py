"""A stream of segmented frames, as whoever asked for it sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, Unpack

if TYPE_CHECKING:
    from t2d_runtime.results.options import SegmentOptions
    from t2d_runtime.words.class_list import ClassNames
    from t2d_runtime.words.vocabulary import ClassEmbeddings

FrameT = TypeVar("FrameT", covariant=True)


class Closable(Protocol):
    """The sources of a stream."""

    @property
    def dropped(self) -> int:
        """Frames of live sources dropped so far."""

    def close(self) -> None:
        """End them. Any thread may call this."""


class FrameStream(Generic[FrameT]):
    """An iterator of segmented frames, in the order of each source, as they are ready.

    It ends with its sources. `close` ends it early and frees threads, files and cameras; so does the end of a `with`
    block, and forgetting it.
    """

    def __init__(
        self,
        sources: Closable,
        set_classes: Callable[[ClassEmbeddings | ClassNames, SegmentOptions], None],
        frames: Generator[FrameT, None, None],
    ) -> None:
        self._sources = sources
        self._set_classes = set_classes
        self._frames = frames
        self._taking = threading.Lock()
        """Held by the thread that takes a frame, or that closes the frames while none is taken."""

    def __iter__(self) -> Iterator[FrameT]:
        return self

    def __next__(self) -> FrameT:
        with self._taking:
            return next(self._frames)

    def __enter__(self) -> FrameStream[FrameT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """Frames of live sources dropped so far, because newer ones came before they could be segmented."""
        return self._sources.dropped

    def set_classes(self, classes: ClassEmbeddings | ClassNames, **options: Unpack[SegmentOptions]) -> None:
        """Look for other words from now on. Frames that are labelled already keep theirs: see `result.class_names`.

        `classes` and `options` are those of `segment`, and take the place of all former ones: an option that is left
        out takes its default. Smoothing begins anew. A still frame is labelled again, and is encoded again only for
        another `window`. Any thread may call this while another takes frames; new words are encoded in the calling
        thread, and the stream goes on with the former ones meanwhile. Raises the errors of `segment` for options and
        classes; the former words then stay.
        """
        self._set_classes(classes, options)

    def close(self) -> None:
        """End the stream and free its sources. Any thread may call this while another takes frames."""
        self._sources.close()
        if self._taking.acquire(blocking=False):  # else a frame is taken just now, and that thread finds the end
            try:
                self._frames.close()
            finally:
                self._taking.release()
