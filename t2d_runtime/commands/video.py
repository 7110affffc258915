"""`t2d video`: label the frames of videos, cameras and folders with words."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from t2d_runtime.commands.arguments import (
    add_bundle,
    add_engine_options,
    add_overwrite,
    add_postprocess,
    add_prompts,
    add_words,
    named_path,
)
from t2d_runtime.commands.mask_options import add_background, add_mask_options, check_mask_options, mask_options
from t2d_runtime.commands.opening import open_with_words
from t2d_runtime.commands.running import status_of_batch
from t2d_runtime.commands.terminal import complain, say
from t2d_runtime.commands.video_outputs import (
    KNOWN,
    STANDARD_OUTPUT,
    VIDEOS,
    Outputs,
    open_outputs,
    raw_output,
    video_formats_of,
)
from t2d_runtime.errors import OptionError, T2DError

if TYPE_CHECKING:
    from t2d_runtime.streams.frames import Frame
    from t2d_runtime.streams.kinds import GivenSource
    from t2d_runtime.streams.settings import StreamOptions
    from t2d_runtime.streams.stream import FrameStream

NAMES_SHOWN = 5
"""Sources that are named in the last line; more are only counted."""

ERRORS_SHOWN = 10
"""Errors of frames that are printed; the others are only counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    sources = (
        "video file, camera's number, rtsp:// or http(s):// address, picture, folder or pattern such as '*.mp4'; "
        "several are worked on at once"
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=sources)
    add_words(parser, vocabulary=True)
    add_prompts(parser)
    add_background(parser)
    add_mask_options(parser)
    _add_stream_options(parser)
    _add_output_options(parser)
    add_engine_options(parser)
    add_postprocess(parser)


def _add_stream_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--every", type=int, default=1, metavar="N", help="segment every N-th frame; default: 1")
    parser.add_argument("--max-fps", type=float, metavar="X", help="segment at most X frames of each second")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="play videos at their own speed, as a camera: frames that come too early for the encoder are dropped",
    )
    parser.add_argument(
        "--motion-threshold",
        type=float,
        metavar="X",
        help="do not encode a frame again whose picture changed by less than X levels of 255 anywhere, such as 4; "
        "default: encode every frame",
    )
    parser.add_argument(
        "--smoothing",
        type=float,
        default=0.0,
        metavar="X",
        help="share of the scores so far in a frame's scores, against flicker, 0 to below 1: 0.9; default: 0, off",
    )
    parser.add_argument("--watch", action="store_true", help="go on with each new file that comes into the folder")
    parser.add_argument(
        "--retries",
        type=int,
        metavar="N",
        help="tries in a row to open a camera again that went away; default: without end",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    formats = "; ".join(f"{name}: {description}" for name, description in KNOWN.items())
    parser.add_argument(
        "--output",
        type=named_path,
        default=Path("output"),
        metavar="FILE|DIR|-",
        help="video file (.mp4, .m4v, .mkv, .mov, .webm), folder, or - for raw frames (rgb24) on standard output; "
        "default: the folder output",
    )
    parser.add_argument(
        "--format",
        default="overlay",
        metavar="LIST",
        help=f"files to write, separated by commas. {formats}; default: overlay",
    )
    parser.add_argument("--fps", type=float, metavar="X", help="rate of videos made of pictures; default: 25")
    parser.add_argument("--no-sound", action="store_true", help="leave the video's sound out")
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Segment the frames; the status is 1 where some failed, 2 where there was none."""
    from t2d_runtime.commands.protection import Inputs, files_given
    from t2d_runtime.streams.containers import video_module
    from t2d_runtime.streams.kinds import sources_of
    from t2d_runtime.streams.settings import split_options

    video_module()
    formats = video_formats_of(args.format)
    sources = sources_of(args.sources)
    options: StreamOptions = {
        "every": args.every,
        "max_fps": args.max_fps,
        "realtime": args.realtime,
        "motion_threshold": args.motion_threshold,
        "smoothing": args.smoothing,
        "watch": args.watch,
        "retries": args.retries,
    }
    split_options(options, sources, "yield")
    check_mask_options(args)
    _check_effects(args, sources, formats)
    raw = str(args.output) == STANDARD_OUTPUT
    read = [source.given for source in sources if isinstance(source.given, Path)]
    inputs = Inputs([*read, *files_given(args)], args.bundle)
    with ExitStack() as stack:
        outputs = (
            raw_output(formats)
            if raw
            else open_outputs(
                stack,
                args.output,
                sources,
                formats,
                inputs,
                fps=args.fps,
                sound=not args.no_sound,
                overwrite=args.overwrite,
            )
        )
        segmenter, classes = open_with_words(args)
        options |= mask_options(args, segmenter.manifest)  # type: ignore[typeddict-item]
        options["sinks"] = outputs.sinks
        stream = segmenter.stream(args.sources, classes, errors="yield", **options)
        return _Run(sources, outputs, options, quiet=raw).work(stream, stack)


def _check_effects(args: argparse.Namespace, sources: Sequence[GivenSource], formats: Sequence[str]) -> None:
    """Raises OptionError for options that would have no effect."""
    from t2d_runtime.streams.kinds import Kind

    kinds = {source.kind for source in sources}
    video = bool(set(formats) & set(VIDEOS)) and str(args.output) != STANDARD_OUTPUT
    if args.fps is not None and (not video or not kinds & {Kind.PICTURE, Kind.FOLDER, Kind.PATTERN}):
        raise OptionError(
            "--fps has no effect but on videos made of pictures; a video keeps its own rate; leave it out"
        )
    if args.no_sound and (not video or Kind.VIDEO not in kinds):
        raise OptionError("--no-sound has no effect without a video file whose video is written; leave it out")
    if args.overwrite and str(args.output) == STANDARD_OUTPUT:
        raise OptionError("--overwrite has no effect with --output -, which writes no file; leave it out")


class _Run:
    """Works through a stream, with a progress bar, and tells what came of it."""

    def __init__(
        self, sources: Sequence[GivenSource], outputs: Outputs, options: StreamOptions, *, quiet: bool
    ) -> None:
        self._sources = sources
        self._outputs = outputs
        self._options = options
        self._say = complain if quiet else say  # standard output holds the frames
        self._done, self._errors = 0, list[T2DError]()

    def work(self, stream: FrameStream[Frame | T2DError], stack: ExitStack) -> int:
        """Take all frames; after an interrupt too, the files are finished and told."""
        from tqdm import tqdm

        start = time.perf_counter()
        try:
            with stream, tqdm(total=self._expected(), unit="frame", disable=None, leave=False) as bar:
                for found in stream:
                    if isinstance(found, T2DError):
                        self._failed(found)
                        continue
                    self._done += 1
                    if stream.dropped:
                        bar.set_postfix(dropped=stream.dropped, refresh=False)
                    bar.update()
        finally:
            stack.close()
            if self._done:
                self._tell(time.perf_counter() - start, stream.dropped)
        if not self._done:
            raise self._errors[0] if self._errors else OptionError(f"{self._names()}: there was no frame")
        return status_of_batch(self._done, len(self._errors))

    def _failed(self, error: T2DError) -> None:
        self._errors.append(error)
        if len(self._errors) <= ERRORS_SHOWN and (self._done or len(self._errors) > 1 or len(self._sources) > 1):
            complain(str(error))

    def _tell(self, seconds: float, dropped: int) -> None:
        dropping = f"; {dropped} dropped" if dropped else ""
        failing = f"; {len(self._errors)} failed" if self._errors else ""
        rate = f"{self._done / seconds:.1f} frames a second"
        frames = "1 frame" if self._done == 1 else f"{self._done} frames"
        self._say(f"{self._names()}: {frames} in {seconds:.1f} s: {rate}{dropping}{failing}")
        for path in self._outputs.paths:
            if path.exists():
                self._say(f"    {path}")

    def _names(self) -> str:
        if len(self._sources) > NAMES_SHOWN:
            return f"{len(self._sources)} sources"
        return ", ".join(source.name for source in self._sources)

    def _expected(self) -> int | None:
        """The number of frames to come, where all sources say it."""
        from t2d_runtime.streams.files import told_frames
        from t2d_runtime.streams.kinds import Kind

        counts = [
            told_frames(source.given, self._options["every"], self._options["max_fps"])
            if source.kind is Kind.VIDEO
            else 1
            if source.kind is Kind.PICTURE
            else None
            for source in self._sources
        ]
        return None if None in counts else sum(filter(None, counts))
