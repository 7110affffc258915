"""JSON Lines: a line of names, areas and boxes for each frame."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY, own_file, refuse_foreign
from t2d_runtime.storage.whole_file import cannot_write
from t2d_runtime.streams.frames import Frame


class JsonLinesSink:
    """Writes a line for each frame, after a first line with the settings. The file appears when the sink is closed.

    Raises OutputError.
    """

    def __init__(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._stack = ExitStack()
        self._file: BinaryIO | None = None
        refuse_foreign(self.path, overwrite=overwrite)

    def write(self, frame: Frame) -> None:
        """Add a frame: its place, and the labels of `Segmentation.summary`."""
        summary = frame.result.summary()
        settings = summary.pop("settings")
        line = {
            "source": frame.source,
            "file": frame.file,
            "index": frame.index,
            "time_s": None if frame.time_s is None else round(frame.time_s, 6),
            "dropped": frame.dropped,
            **summary,
        }
        try:
            if self._file is None:
                self._file = self._stack.enter_context(own_file(self.path, overwrite=self._overwrite))
                head = {GENERATOR_KEY: GENERATOR, "settings": settings, "class_names": frame.result.class_names}
                origin = frame.result.origin
                self._file.write(_line(head if origin is None else {**head, "origin": asdict(origin)}))
            self._file.write(_line(line))
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Give the file its name."""
        self._file = None
        self._stack.close()

    def __enter__(self) -> JsonLinesSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _line(content: object) -> bytes:
    return (json.dumps(content) + "\n").encode()
