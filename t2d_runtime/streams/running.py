"""The stages of a stream: reading, encoding, labelling and writing overlap, with few frames in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from t2d_runtime.errors import T2DError
from t2d_runtime.overlap import overlapped
from t2d_runtime.streams.changes import Changed
from t2d_runtime.streams.frame_segmenter import FrameSegmenter
from t2d_runtime.streams.frames import Frame, SourceFrame
from t2d_runtime.streams.kinds import GivenSource
from t2d_runtime.streams.memory import Memory
from t2d_runtime.streams.settings import Errors, StreamSettings
from t2d_runtime.streams.sources import Drawn, Sources
from t2d_runtime.streams.stream import FrameStream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from t2d_runtime.image.encoding import ImageEncoding
    from t2d_runtime.results.options import SegmentOptions
    from t2d_runtime.results.segmentation import Segmentation
    from t2d_runtime.streams.sinks.base import Sink
    from t2d_runtime.words.class_list import ClassNames
    from t2d_runtime.words.vocabulary import ClassEmbeddings

AHEAD = 2
"""Frames in work besides one for each stage, so that a stage need not wait for the one before."""

UNCHANGED = Changed(still=False, cut=False)
"""The changes of a frame before they are looked for."""


@dataclass
class _Work:
    """A frame on its way through the stages. After an error the later stages leave it alone."""

    drawn: Drawn
    pixels: NDArray[np.uint8] | None = None
    encoded: ImageEncoding | Segmentation | None = None
    outcome: Frame | T2DError | None = None
    changed: Changed = UNCHANGED


def stream_frames(
    given: Sequence[GivenSource], segmenter: FrameSegmenter[Any], settings: StreamSettings, errors: Errors
) -> FrameStream[Frame | T2DError]:
    """Segment the frames of a source, or of several. Raises MissingPackageError where that needs PyAV."""
    sources = Sources(given, settings)
    stages = Stages(segmenter, sources, settings)
    return FrameStream(sources, stages.set_classes, _frames(sources, stages, errors))


def _frames(sources: Sources, stages: Stages, errors: Errors) -> Generator[Frame | T2DError, None, None]:
    functions: list[Callable[[Any], Any]] = [stages.read, stages.encode, stages.label, *stages.writing]
    # Of a live source no frame waits between two stages, or its result would be late.
    in_flight = len(functions) - 1 if sources.live else len(functions) + AHEAD
    results = overlapped(stages.drawn(), functions, in_flight)
    try:
        for done in results:
            outcome: Frame | T2DError | None = done.result().outcome
            del done
            if isinstance(outcome, T2DError) and errors == "raise":
                raise outcome
            if outcome is not None:
                yield outcome
            del outcome
    finally:
        sources.close()  # before the threads of the stages are waited for, one of which may wait for a frame
        stages.close()
        results.close()


class Stages:
    """The stages of one stream. Each is run by one thread."""

    def __init__(self, segmenter: FrameSegmenter[Any], sources: Sources, settings: StreamSettings) -> None:
        self.segmenter = segmenter
        """Replaced by another one where the words change. Each stage takes the one that is there for its frame."""
        self._sources = sources
        # A live source's newest frame is taken when the encoder has nothing to do, not earlier.
        self._idle = threading.Semaphore(1) if sources.live else None
        self.writing = tuple(partial(self._write, sink) for sink in settings.sinks)
        self._memories = [Memory(settings) for _ in sources.given]

    def set_classes(self, classes: ClassEmbeddings | ClassNames, options: SegmentOptions) -> None:
        """Label the frames from now on with other words. Raises the errors of `segment`, and changes nothing then."""
        self.segmenter = self.segmenter.with_classes(classes, options)

    def drawn(self) -> Iterator[_Work]:
        """The frames of the sources, each when it is needed."""
        with closing(iter(self._sources)) as frames:
            while True:
                if self._idle is not None:
                    self._idle.acquire()
                drawn = next(frames, None)
                if drawn is None:
                    return
                yield _Work(drawn, outcome=drawn.found if isinstance(drawn.found, T2DError) else None)
                del drawn

    def close(self) -> None:
        """Let the thread end that waits for the encoder."""
        if self._idle is not None:
            self._idle.release()

    def read(self, work: _Work) -> _Work:
        """Convert a frame to pixels."""
        found = work.drawn.found
        if isinstance(found, SourceFrame):
            with self._placed(work):
                work.pixels = found.load()
            work.drawn = work.drawn._replace(found=replace(found, load=_loaded))  # frees the decoder's picture
        return work

    def encode(self, work: _Work) -> _Work:
        """Encode a frame's pixels."""
        try:
            with self._placed(work):
                if work.pixels is not None:
                    pixels, work.pixels = work.pixels, None
                    memory, segmenter = self._memories[work.drawn.number], self.segmenter
                    changed = memory.changes(pixels, work.drawn.found, segmenter.working_size)
                    work.encoded, work.changed = memory.encoded(pixels, changed, segmenter)
        finally:
            if self._idle is not None:
                self._idle.release()
        return work

    def label(self, work: _Work) -> _Work:
        """Make a frame's labels."""
        with self._placed(work):
            if work.encoded is not None:
                encoded, work.encoded = work.encoded, None
                result = self._memories[work.drawn.number].labelled(encoded, work.changed, self.segmenter)
                work.outcome = self._frame(work, result)
        return work

    def _frame(self, work: _Work, result: Segmentation) -> Frame:
        number, found, dropped = work.drawn
        if not isinstance(found, SourceFrame):
            raise TypeError(f"expected a frame, got {found!r}")
        name = self._sources.given[number].name
        still = work.changed.still
        return Frame(
            result, found.index, found.time_s, name, found.file, dropped, still, number, found.sample_aspect_ratio
        )

    @staticmethod
    def _write(sink: Sink, work: _Work) -> _Work:
        if isinstance(work.outcome, Frame):
            sink.write(work.outcome)
        return work

    @contextmanager
    def _placed(self, work: _Work) -> Iterator[None]:
        """Keeps an error as the frame's outcome, with the frame's place in its source."""
        try:
            yield
        except T2DError as error:
            number, found, _ = work.drawn
            place = self._sources.given[number].name
            if isinstance(found, SourceFrame):
                place = f"frame {found.index} of {found.file or place}"
            work.outcome = type(error)(f"{place}: {error}")
            work.pixels = work.encoded = None


def _loaded() -> NDArray[np.uint8]:
    raise RuntimeError("the frame was converted already, and its decoded picture is freed")
