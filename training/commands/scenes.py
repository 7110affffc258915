"""`python -m training scenes`: draws scenes, or with --clip scenes that move."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from t2d_runtime.errors import OptionError
from training.drawing.clip_files import write_clips
from training.drawing.clips import ClipSettings
from training.drawing.scenes import DEFAULT_SIZE, write_scenes

SCENES: Final = 1000
CLIPS: Final = 1
CLIP_OPTIONS: Final = ("frame_size", "frames", "fps", "still", "scenes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training scenes`."""
    clip = ClipSettings()
    parser.add_argument("--output", type=Path, required=True, help="folder to write; it must not exist")
    parser.add_argument("--count", type=int, help=f"number of scenes (default: {SCENES}) or clips (default: {CLIPS})")
    parser.add_argument("--seed", type=int, default=0, help="series of scenes (default: %(default)s)")
    parser.add_argument("--size", type=int, help=f"side of a scene in pixels (default: {DEFAULT_SIZE})")
    parser.add_argument("--clip", action="store_true", help="draw clips (MP4, H.264) whose things and camera move")
    parser.add_argument(
        "--frame-size", type=_frame_size, metavar="WxH", help=f"of a clip (default: {clip.size[1]}x{clip.size[0]})"
    )
    parser.add_argument("--frames", type=int, help=f"frames of a clip (default: {clip.frames})")
    parser.add_argument("--fps", type=int, help=f"frames a second (default: {clip.fps})")
    parser.add_argument("--still", type=float, metavar="SHARE", help="share of a scene's last frames that stand still")
    parser.add_argument("--scenes", type=int, help="scenes of a clip, joined by cuts (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Run `python -m training scenes`."""
    given = {name: getattr(args, name) for name in CLIP_OPTIONS if getattr(args, name) is not None}
    if not args.clip:
        if given:
            raise OptionError(f"--{next(iter(given)).replace('_', '-')} is for clips; add --clip or leave it out")
        count = SCENES if args.count is None else args.count
        write_scenes(args.output, count, args.seed, DEFAULT_SIZE if args.size is None else args.size)
        return 0
    if args.size is not None:
        raise OptionError("--size is for scenes; give --frame-size for clips")
    if "frame_size" in given:
        given["size"] = given.pop("frame_size")
    write_clips(args.output, CLIPS if args.count is None else args.count, args.seed, ClipSettings(**given))
    return 0


def _frame_size(text: str) -> tuple[int, int]:
    """A size WIDTHxHEIGHT as (height, width)."""
    width, _, height = text.partition("x")
    try:
        return int(height), int(width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 640x480, got '{text}'") from None
