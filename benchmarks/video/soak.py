"""Long runs: the memory of a file of many frames, and the age of results of a live source that is too fast."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.video import fake_camera
from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.sinks.video import VideoSink

SETTLED = 0.2
"""Share of the frames before memory is looked at: engines and decoders grow at first."""


def measure_memory(
    segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, folder: Path, count: int
) -> dict[str, Any]:
    """Resident memory over a run of `count` frames into a video, in MiB: after the first fifth, and the most later."""
    resident, seen = [], 0
    with VideoSink(folder / "soak.mp4", sound=False) as sink:
        images = itertools.islice(_endless(clip), count)
        for seen, _ in enumerate(segmenter.stream(images, classes, sinks=[sink]), start=1):
            if seen % max(1, count // 100) == 0:
                resident.append(resident_mib())
    settled = resident[int(SETTLED * len(resident)) :]
    early, late = (float(np.median(part)) for part in np.array_split(settled, 2))
    return {"frames": seen, "early_mib": early, "late_mib": late, "most_mib": max(settled), "growth": late / early - 1}


def measure_live(
    segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, seconds: float, fps: float
) -> dict[str, Any]:
    """Ages of the results of a camera at `fps`, in the machine's own frame times, and the frames dropped."""
    images = list(itertools.islice(_endless(clip), 50))
    ages, times, last = [], [], None
    with fake_camera.connected(images, fps) as came, segmenter.stream(0, classes) as stream:
        start = time.monotonic()
        for frame in stream:
            now = time.monotonic()
            ages.append(now - came[frame.index])
            times.append(now)
            last = frame
            if now - start > seconds:
                break
    if not isinstance(last, Frame):
        raise RuntimeError("the camera gave no frame")
    shares = np.array(ages[1:]) / _smooth(np.diff(times))
    return {
        "seconds": times[-1] - start,
        "camera_fps": fps,
        "fps": len(times) / (times[-1] - start),
        "dropped": last.dropped,
        "counted": last.dropped + len(times) == last.index + 1,
        "median_age_frames": float(np.median(shares)),
        "p99_age_frames": float(np.percentile(shares, 99)),
        "most_age_frames": float(shares.max()),
    }


def _smooth(intervals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The machine's time for a frame, of the frames around each: its load changes."""
    ones = np.ones(min(9, len(intervals)))
    return np.convolve(intervals, ones, mode="same") / np.convolve(np.ones(len(intervals)), ones, mode="same")


def _endless(clip: Path) -> Iterator[NDArray[np.uint8]]:
    """The clip's pictures, again and again."""
    import av

    while True:
        with av.open(str(clip)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")  # type: ignore[misc]


def resident_mib() -> float:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20
