"""Drawn clips, whose truth is known: what smoothing does to flicker and accuracy, and what still frames save."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.evaluation.confusion import Confusion
from t2d_runtime.streams.sinks.video import VideoSink
from training.drawing.clip_files import write_clips
from training.drawing.clips import ClipSettings
from training.drawing.concepts import INDEX

SERIES = 7
"""Series of the clips. What smoothing does was tried on others."""

SMOOTHINGS = (0.0, 0.8, 0.9, 0.95, 0.97)
MOTION_THRESHOLD = 4.0
"""That of the documentation."""


@dataclass(frozen=True)
class DrawnClip:
    """A clip on disk, and what is seen in it."""

    path: Path
    words: tuple[str, ...]
    moving: tuple[int, ...]
    """Indices of the words whose things move."""
    labels: tuple[Path, ...]
    """Label maps of the frames."""

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Indices of words (H,W) of a frame."""
        names = np.zeros(256, np.uint8)
        for place, word in enumerate(self.words):
            names[INDEX[word]] = place
        found: NDArray[np.uint8] = names[np.asarray(Image.open(self.labels[index]))]
        return found


def draw(folder: Path, count: int, settings: ClipSettings) -> list[DrawnClip]:
    """Write clips into a new folder."""
    write_clips(folder, count, SERIES, settings)
    return [
        DrawnClip(
            folder / clip["file"],
            tuple(clip["concepts"]),
            tuple(clip["concepts"].index(word) for word in clip["moving"]),
            tuple(folder / clip["labels"] / f"{frame:06d}.png" for frame in range(clip["frames"])),
        )
        for clip in json.loads((folder / "clips.json").read_text())["clips"]
    ]


@dataclass
class _Judge:
    """Flicker and IoU of one clip."""

    clip: DrawnClip
    changed: int = 0
    unchanged_truth: int = 0
    before: tuple[NDArray[Any], NDArray[Any]] | None = None
    confusion: Confusion = field(init=False)

    def __post_init__(self) -> None:
        self.confusion = Confusion(len(self.clip.words))

    def add(self, index: int, labels: NDArray[Any]) -> None:
        truth = self.clip.truth(index)
        self.confusion.add(truth, labels)
        if self.before is not None:
            same = self.before[1] == truth
            self.changed += int(((self.before[0] != labels) & same).sum())
            self.unchanged_truth += int(same.sum())
        self.before = labels, truth

    def figures(self) -> dict[str, float]:
        """Flicker is the share of pixels whose label changes from a frame to the next where the truth does not."""
        return {
            "flicker": self.changed / self.unchanged_truth,
            "mean_iou": self.confusion.mean_iou(),
            "moving_iou": float(self.confusion.iou()[list(self.clip.moving)].mean()),
        }


def measure_smoothing(
    segmenter: Segmenter, folder: Path, count: int, frames: int, *, refine: bool = False
) -> dict[str, Any]:
    """Means over drawn clips of flicker, mIoU and mean IoU of the things that move, for each smoothing.

    `processor_ms`: processor time of the stream, a frame. `refine`: with PAMR.
    """
    clips = draw(folder / "moving", count, ClipSettings(frames=frames))
    found: dict[float, list[dict[str, float]]] = {smoothing: [] for smoothing in SMOOTHINGS}
    for clip in clips:
        classes = segmenter.encode_classes(clip.words)
        for smoothing in SMOOTHINGS:
            judge, start = _Judge(clip), time.process_time()
            stream = segmenter.stream(str(clip.path), classes, smoothing=smoothing, refine=refine)
            results = [frame.result for frame in stream]
            spent_ms = 1e3 * (time.process_time() - start) / len(results)
            for index, result in enumerate(results):
                judge.add(index, result.label_map)
            found[smoothing].append({**judge.figures(), "processor_ms": spent_ms})
    rows = [{"smoothing": smoothing, **_means(figures)} for smoothing, figures in found.items()]
    return {"clips": count, "frames": frames, "series": SERIES, "refine": refine, "rows": rows}


def _means(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}


def measure_still(segmenter: Segmenter, folder: Path, frames: int, rounds: int) -> dict[str, Any]:
    """Time of a clip that stands still for half of its length, of that without the option; and its labels' agreement.

    Shares of wall and processor time, of the stream alone and with an overlay video; medians of rounds in turn.
    `least_agreement` is the smallest share of a frame's labels that are those of `segment` on the same frame.
    """
    (clip,) = draw(folder / "still", 1, ClipSettings(frames=frames, still=0.5))
    classes = segmenter.encode_classes(clip.words)
    found: dict[str, Any] = {"frames": frames, "motion_threshold": MOTION_THRESHOLD, "rounds": rounds}
    for name, writes in (("stream", False), ("overlay", True)):
        times = np.array(
            [
                [_timed(segmenter, classes, clip.path, folder, threshold, writes=writes) for threshold in both]
                for both in [(None, MOTION_THRESHOLD)] * rounds
            ]
        )
        shares = np.median(times[:, 1] / times[:, 0], axis=0)
        found[name] = {"wall_share": float(shares[0]), "processor_share": float(shares[1])}
    agreement, reused = [], 0
    for frame in segmenter.stream(str(clip.path), classes, motion_threshold=MOTION_THRESHOLD):
        labels = segmenter.segment(frame.result.image, classes).label_map
        agreement.append(float((labels == frame.result.label_map).mean()))
        reused += frame.reused
    return {**found, "reused": reused, "least_agreement": min(agreement), "mean_agreement": float(np.mean(agreement))}


def _timed(
    segmenter: Segmenter,
    classes: ClassEmbeddings,
    clip: Path,
    folder: Path,
    threshold: float | None,
    *,
    writes: bool,
) -> tuple[float, float]:
    """Seconds of wall and of processor time for a clip."""
    sinks = [VideoSink(folder / "still.mp4", sound=False)] if writes else []
    start, processor = time.perf_counter(), time.process_time()
    for _ in segmenter.stream(str(clip), classes, motion_threshold=threshold, sinks=sinks):
        pass
    for sink in sinks:
        sink.close()
    return time.perf_counter() - start, time.process_time() - processor
