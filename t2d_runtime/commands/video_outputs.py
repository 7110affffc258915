"""The results of `t2d video`: their formats, their places, and the sinks that write them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

from t2d_runtime.errors import OptionError
from t2d_runtime.results.formats import FORMATS, FileFormat
from t2d_runtime.storage.kinds import is_folder

if TYPE_CHECKING:
    from t2d_runtime.commands.protection import Inputs
    from t2d_runtime.streams.frames import Frame
    from t2d_runtime.streams.kinds import GivenSource
    from t2d_runtime.streams.sinks.base import Sink

VIDEOS = {
    "overlay": "a video of the frames in their labels' colours",
    "side-by-side": "a video of each frame beside its labels",
}
LINES = {"jsonl": "a line of JSON for each frame: names, areas and boxes of its labels"}
OF_FRAMES = {name: found.description for name, found in FORMATS.items() if name not in ("overlay", "scores")}
"""Formats of `t2d segment`, written for each frame. Scores are left out: they are many times the video's size."""

KNOWN = {
    **VIDEOS,
    **LINES,
    **{
        name: f"of each frame: {text}"
        if isinstance(FORMATS[name], FileFormat)
        else text.replace("all images", "all frames")
        for name, text in OF_FRAMES.items()
    },
}
"""Format -> its description."""

STANDARD_OUTPUT = "-"


def video_formats_of(text: str) -> tuple[str, ...]:
    """Formats by their names, separated by commas. Raises OptionError."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in KNOWN]
    if unknown or not names:
        got = f"unknown output format {', '.join(map(repr, unknown))}" if unknown else "no output format"
        raise OptionError(f"{got}, expected some of {', '.join(KNOWN)}, separated by commas")
    return names


@dataclass
class Outputs:
    """The sinks of a run, and the files and folders that they write."""

    sinks: list[Sink]
    paths: list[Path]


class EachSource:
    """Hands a frame to the sink of its source."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def write(self, frame: Frame) -> None:
        """Write a frame."""
        self._sinks[frame.source_number].write(frame)


def raw_output(formats: Sequence[str]) -> Outputs:
    """Raw frames on standard output. Raises OptionError for formats that are files."""
    from t2d_runtime.streams.sinks.others import RawVideoSink

    if len(formats) != 1 or formats[0] not in VIDEOS:
        raise OptionError(f"--output - writes raw frames, expected --format {' or '.join(VIDEOS)}")
    file: BinaryIO = sys.stdout.buffer
    return Outputs([RawVideoSink(file, view=formats[0])], [])  # type: ignore[arg-type]


def open_outputs(
    stack: ExitStack,
    output: Path,
    sources: Sequence[GivenSource],
    formats: Sequence[str],
    inputs: Inputs,
    *,
    fps: float | None,
    sound: bool,
    overwrite: bool,
) -> Outputs:
    """Sinks for each format of each source; closing the stack finishes their files.

    Raises OutputError where a file must not be written, and OptionError for an output that does not fit.
    """
    from t2d_runtime.streams.sinks.json_lines import JsonLinesSink
    from t2d_runtime.streams.sinks.others import FrameFilesSink
    from t2d_runtime.streams.sinks.video import DEFAULT_FPS, VideoSink

    found = Outputs([], [])
    frame_formats = ",".join(name for name in formats if name in OF_FRAMES)
    for name in (*(name for name in formats if name not in OF_FRAMES), *([frame_formats] if frame_formats else [])):
        sinks: list[Any] = []
        for path in _paths(output, sources, name, [each for each in formats if each in VIDEOS]):
            inputs.refuse(path)
            if name in VIDEOS:
                rate = DEFAULT_FPS if fps is None else fps
                sink: Any = VideoSink(path, view=name, fps=rate, sound=sound, overwrite=overwrite)  # type: ignore[arg-type]
            elif name in LINES:
                sink = JsonLinesSink(path, overwrite=overwrite)
            else:
                sink = FrameFilesSink(path, name, overwrite=overwrite)
            stack.callback(sink.close)
            sinks.append(sink)
            found.paths.append(path)
        found.sinks.append(EachSource(sinks))
    return found


def _paths(output: Path, sources: Sequence[GivenSource], name: str, videos: Sequence[str]) -> list[Path]:
    """The file or folder of each source for one format."""
    from t2d_runtime.streams.kinds import VIDEO_SUFFIXES
    from t2d_runtime.streams.sinks.video import ENCODINGS

    suffixes = {"overlay": ".mp4", "side-by-side": ".side-by-side.mp4", "jsonl": ".jsonl"}
    suffix = output.suffix.lower()
    if suffix in VIDEO_SUFFIXES - set(ENCODINGS) and not is_folder(output):
        raise OptionError(
            f"--output {output}: no video of the suffix {suffix} is written; expected {', '.join(ENCODINGS)}, "
            "or a folder"
        )
    if suffix not in ENCODINGS:
        return [output / f"{stem}{suffixes.get(name, '')}" for stem in _stems(sources)]
    if len(sources) > 1:
        raise OptionError(f"--output {output} is one file for {len(sources)} sources; give a folder")
    if len(videos) != 1:
        raise OptionError(f"--output {output} is one video, expected one of --format {', '.join(VIDEOS)}")
    if name in VIDEOS:
        return [output]
    return [output.with_name(f"{output.stem}{suffixes.get(name, '')}")]


def _stems(sources: Sequence[GivenSource]) -> list[str]:
    """A name for the results of each source, all different."""
    stems: list[str] = []
    for source in sources:
        stem = _stem(source)
        number, unique = 2, stem
        while unique.casefold() in (other.casefold() for other in stems):
            unique, number = f"{stem}-{number}", number + 1
        stems.append(unique)
    return stems


def _stem(source: GivenSource) -> str:
    from t2d_runtime.streams.kinds import Kind

    if source.kind is Kind.CAMERA:
        return f"camera{PurePath(source.name).name}"
    if source.kind in (Kind.URL, Kind.RTSP):
        host, _, path = source.name.partition("://")[2].partition("?")[0].partition("/")
        text = PurePath(path).stem or host
    else:
        text = Path(source.name).absolute().stem
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "stream"
