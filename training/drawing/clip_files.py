"""Files of drawn clips: H.264 video, a label map for every frame, and a list of what is in each clip."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
from PIL import Image
from tqdm import tqdm

from t2d_runtime.device.install import needs_extra
from t2d_runtime.errors import OptionError
from training.config import check_seed
from training.drawing.clips import MOTIONS, ClipSettings, draw_clip
from training.drawing.concepts import CONCEPTS
from training.folders import new_folder

if TYPE_CHECKING:
    from av.video.stream import VideoStream

QUALITY: Final = {"crf": "18", "preset": "medium"}
"""x264's constant quality: the drawing's grain survives, and nobody sees the difference."""


def write_clips(output: Path, count: int, seed: int, settings: ClipSettings) -> None:
    """Write clips: clips/NAME.mp4, labels/NAME/FRAME.png, clips.json, classes.json.

    clips.json lists for each clip its file, frames, rate, size, the concepts in it, and those of them that move. The
    folder appears whole or not at all. Raises OptionError for a count below 1 or a seed out of range, OutputError where
    the folder exists already or cannot be written, and MissingPackageError without the extra `video`.
    """
    if count < 1:
        raise OptionError(f"expected at least 1 clip, got {count}")
    check_seed(seed)
    with needs_extra("video"):
        import av  # noqa: F401
    height, width = settings.size
    frames = count * settings.frames
    bar = tqdm(total=frames, desc="drawing clips", unit="frame", mininterval=1.0, disable=None)
    with new_folder(output) as root, bar:
        (root / "clips").mkdir()
        clips: list[dict[str, object]] = []
        for index in range(count):
            name = f"{index:06d}"
            seen = _write_clip(root, name, seed, index, settings, bar)
            clips.append(
                {
                    "file": f"clips/{name}.mp4",
                    "labels": f"labels/{name}",
                    "frames": settings.frames,
                    "fps": settings.fps,
                    "height": height,
                    "width": width,
                    "concepts": [concept for concept in CONCEPTS if concept in seen],
                    "moving": [concept for concept in CONCEPTS if concept in seen and concept in MOTIONS],
                }
            )
        info = {"description": "drawn clips", "seed": seed, "still": settings.still, "scenes": settings.scenes}
        (root / "clips.json").write_text(json.dumps({"info": info, "clips": clips}, indent=1) + "\n")
        (root / "classes.json").write_text(json.dumps(list(CONCEPTS), indent=1) + "\n")


def _write_clip(root: Path, name: str, seed: int, index: int, settings: ClipSettings, bar: tqdm[NoReturn]) -> set[str]:
    """Write the video and the label maps of one clip; returns the concepts that it shows."""
    import av

    labels = root / "labels" / name
    labels.mkdir(parents=True)
    seen: set[str] = set()
    with av.open(str(root / "clips" / f"{name}.mp4"), "w") as container:
        stream = _video_stream(container.add_stream("libx264", rate=Fraction(settings.fps), options=QUALITY), settings)
        for number, frame in enumerate(draw_clip(seed, index, settings)):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            # The matrix that the file names: without it players guess by the size.
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            container.mux(stream.encode(picture))
            Image.fromarray(frame.labels).save(labels / f"{number:06d}.png")
            seen.update(CONCEPTS[label] for label in np.unique(frame.labels))
            bar.update()
        container.mux(stream.encode(None))
    return seen


def _video_stream(stream: VideoStream, settings: ClipSettings) -> VideoStream:
    stream.height, stream.width = settings.size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.color_range, context.colorspace = 1, 1  # limited ("MPEG"), BT.709
    context.color_primaries = context.color_trc = 1
    return stream
