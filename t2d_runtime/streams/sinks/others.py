"""Other sinks: the result files of `t2d segment` for each frame, raw frames, and any function."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path, PurePath
from types import TracebackType
from typing import BinaryIO

from t2d_runtime.results.formats import ImageResult
from t2d_runtime.results.outputs import ResultWriter, formats_of
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.sinks.views import View, checked_view, drawn


class FrameFilesSink:
    """Writes files of each frame into a folder, such as label maps: 000012.labels.png is that of frame 12.

    `formats`: names of `t2d segment --format`, separated by commas. Those of one file for a whole run, such as COCO,
    appear when the sink is closed. Raises OptionError for an unknown format, and OutputError.
    """

    def __init__(self, folder: str | PathLike[str], formats: str = "png", *, overwrite: bool = False) -> None:
        self.path = Path(folder)
        self._writer = ResultWriter(self.path, formats_of(formats), overwrite=overwrite)

    def write(self, frame: Frame) -> None:
        """Write a frame's files."""
        name = f"{frame.index:06d}"
        self._writer.write(ImageResult(frame.result, name, frame.result.scores), PurePath(name))

    def close(self) -> None:
        """Finish the files of the whole run."""
        self._writer.__exit__(None, None, None)

    def __enter__(self) -> FrameFilesSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RawVideoSink:
    """Writes frames as bytes of RGB, row by row (rgb24), into an open file: for FFmpeg or another program to read."""

    def __init__(self, file: BinaryIO, *, view: View = "overlay") -> None:
        self._file = file
        self._view = checked_view(view)

    def write(self, frame: Frame) -> None:
        """Write a frame. Raises OSError, BrokenPipeError where the reader has gone."""
        self._file.write(drawn(frame.result, self._view).tobytes())
        self._file.flush()


class CallbackSink:
    """Calls a function with each frame, in a thread of its own."""

    def __init__(self, function: Callable[[Frame], object]) -> None:
        self._function = function

    def write(self, frame: Frame) -> None:
        """Call the function."""
        self._function(frame)
