"""The live source of a server: its kind, the name that clients see, and a first look at it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from t2d_runtime.errors import ImageError, OptionError, T2DError
from t2d_runtime.image.windows import size_of
from t2d_runtime.streams.kinds import LIVE, PLAYED, GivenSource, Kind, source_of
from t2d_runtime.streams.settings import StreamSettings
from t2d_runtime.streams.sources import Sources

EXPECTED = "a camera's number, rtsp://, http:// or https://, or a video file"


@dataclass(frozen=True)
class LiveSource:
    """A source that goes on: a camera, a stream, or a video that is played in real time."""

    given: GivenSource
    name: str
    """Name for clients. An address is told by its host alone: cameras' paths and queries may hold passwords."""
    size: tuple[int, int]
    """(height, width) of its first frame."""

    @classmethod
    def open(cls, text: str) -> LiveSource:
        """The source that a text names, after a look at its first frame.

        Raises OptionError for anything that does not go on, and the errors of sources that cannot be read.
        """
        given = source_of(text)
        if given.kind not in (*LIVE, *PLAYED):
            raise OptionError(f"--source {given.name} is a {given.kind.value}, expected {EXPECTED}")
        return cls(given, _public_name(given), _first_size(given))

    @property
    def settings(self) -> StreamSettings:
        """The settings of its stream, which ends where the source ends or goes away."""
        return StreamSettings(realtime=self.given.kind in PLAYED, retries=0)

    def told(self, problem: T2DError) -> str:
        """A problem's text for clients."""
        return str(problem).replace(self.given.name, self.name)


def _public_name(given: GivenSource) -> str:
    if given.kind is Kind.CAMERA:
        return f"camera {Path(given.name).name}"
    if given.kind is Kind.VIDEO:
        return Path(given.name).name
    parts = urlsplit(given.name)
    return f"{parts.scheme}://{parts.netloc}"


def _first_size(given: GivenSource) -> tuple[int, int]:
    sources = Sources([given], StreamSettings(retries=0))
    try:
        with closing(iter(sources)) as frames:
            for drawn in frames:
                if isinstance(drawn.found, T2DError):
                    raise drawn.found
                return size_of(drawn.found.load())
    finally:
        sources.close()
    raise ImageError(f"{given.name} holds no frame, expected {EXPECTED}")
