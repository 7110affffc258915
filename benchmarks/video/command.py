"""`python -m benchmarks video`: the rate of a video to an overlay, its stages, drawn clips, and long runs."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results_file import write_results
from benchmarks.video.drawn_clips import measure_smoothing, measure_still
from benchmarks.video.rate import labels_are_equal, measure_rate
from benchmarks.video.soak import measure_live, measure_memory
from benchmarks.video.tables import blocks
from t2d_runtime import Segmenter
from t2d_runtime.errors import OptionError
from training.drawing.clip_files import write_clips
from training.drawing.clips import ClipSettings
from training.drawing.concepts import CONCEPTS

PARTS = ("rate", "smoothing", "still", "memory", "live")
WORDS = 8
CLIP_FRAMES = 50
"""Frames of each clip for smoothing, at most: two seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--clip", type=Path, metavar="F", help="video to measure on; default: a drawn one, 640 x 480")
    parser.add_argument("--parts", default="rate", metavar="LIST", help=f"some of {', '.join(PARTS)}; default: rate")
    parser.add_argument("--frames", type=int, default=150, metavar="N", help="frames of the drawn clip; default: 150")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of the rate; default: 3")
    parser.add_argument("--clips", type=int, default=8, metavar="N", help="drawn clips for smoothing; default: 8")
    parser.add_argument("--refine", action="store_true", help="smoothing with PAMR")
    parser.add_argument("--soak", type=int, default=20_000, metavar="N", help="frames of the run for memory")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="X", help="minutes of the live run; default: 10")
    parser.add_argument("--camera-fps", type=float, default=60.0, metavar="X", help="rate of the live source")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the engine; default: its choice")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables and save the figures."""
    parts = [part.strip() for part in args.parts.split(",")]
    if not set(parts) <= set(PARTS):
        raise OptionError(f"--parts is {args.parts!r}, expected some of {', '.join(PARTS)}")
    if args.refine and "smoothing" not in parts:
        raise OptionError("--refine has no effect without --parts smoothing; leave it out")
    segmenter = Segmenter.open(args.bundle, num_threads=args.threads)
    classes = segmenter.encode_classes(list(CONCEPTS)[:WORDS])
    figures: dict[str, Any] = {"bundle": args.bundle.name, "engine": segmenter.engine_description, "words": WORDS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip = args.clip or _drawn(folder, args.frames)
        if "rate" in parts:
            figures["rate"] = measure_rate(segmenter, classes, clip, folder, args.rounds)
            figures["rate"]["frames_with_other_labels"] = labels_are_equal(segmenter, classes, clip)
        if "smoothing" in parts:
            frames = min(args.frames, CLIP_FRAMES)
            figures["smoothing"] = measure_smoothing(segmenter, folder, args.clips, frames, refine=args.refine)
        if "still" in parts:
            figures["still"] = measure_still(segmenter, folder, args.frames, args.rounds)
        segmenter.release_text_encoder()
        if "memory" in parts:
            figures["memory"] = measure_memory(segmenter, classes, clip, folder, args.soak)
        if "live" in parts:
            figures["live"] = measure_live(segmenter, classes, clip, 60 * args.minutes, args.camera_fps)
    for block in blocks(figures):
        print(block)
        print()
    if args.json is not None:
        write_results(args.json, "video", figures)
    return 0


def _drawn(folder: Path, frames: int) -> Path:
    write_clips(folder / "drawn", 1, 0, ClipSettings(frames=frames))
    return folder / "drawn" / "clips" / "000000.mp4"
