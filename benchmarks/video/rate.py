"""The rate of a video file to an overlay file, against the rate that the stages' processor time allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.device.threads import available_cores
from t2d_runtime.streams.files import video_frames
from t2d_runtime.streams.frames import Frame, SourceFrame
from t2d_runtime.streams.sinks.video import VideoSink

STAGES = ("decode", "convert", "encode", "label", "draw and write")


def measure_rate(
    segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, folder: Path, rounds: int
) -> dict[str, Any]:
    """Processor time of each stage alone and of the whole, in milliseconds a frame, and their rates.

    The stages and the whole take turns. `allowed_fps` is what the stages' summed processor time allows on the cores
    that this process may use. `processor_share`, the stages' over the whole's, is hardly changed by other programs that
    use them too.
    """
    found = [_round(segmenter, classes, clip, folder) for _ in range(rounds)]
    stages = {stage: min(one["stages"][stage] for one in found) for stage in STAGES}
    total_ms = sum(stages.values())
    whole_ms = min(one["whole_ms"] for one in found)
    cores = available_cores()
    fps = max(one["fps"] for one in found)
    allowed = 1e3 * cores / total_ms
    return {
        "frames": found[0]["frames"],
        "cores": cores,
        "stages_ms": stages,
        "stages_total_ms": total_ms,
        "whole_ms": whole_ms,
        "fps": fps,
        "allowed_fps": allowed,
        "rate_share": fps / allowed,
        "processor_share": total_ms / whole_ms,
        "encoder_alone_fps": max(one["encoder_fps"] for one in found),
    }


def _round(segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, folder: Path) -> dict[str, Any]:
    stages, encoder_fps = _stages(segmenter, classes, clip, folder)
    start, processor = time.perf_counter(), time.process_time()
    with VideoSink(folder / "whole.mp4", sound=False) as sink:
        frames = sum(1 for _ in segmenter.stream(clip, classes, sinks=[sink]))
    seconds = time.perf_counter() - start
    return {
        "frames": frames,
        "stages": stages,
        "whole_ms": 1e3 * (time.process_time() - processor) / frames,
        "fps": frames / seconds,
        "encoder_fps": encoder_fps,
    }


def _stages(segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, folder: Path) -> tuple[dict[str, float], float]:
    """Milliseconds of processor time a frame of each stage alone, and the image encoder's own rate."""
    spent = dict.fromkeys(STAGES, 0.0)
    frames, encoding_s = 0, 0.0

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        spent[stage] += time.process_time() - start
        return result

    found = video_frames(clip)
    with VideoSink(folder / "stages.mp4", sound=False) as sink:
        while (source := timed("decode", partial(next, found, None))) is not None:
            if not isinstance(source, SourceFrame):
                raise source
            pixels = timed("convert", source.load)
            start = time.perf_counter()
            encoding = timed("encode", partial(segmenter.encode_image, pixels))
            encoding_s += time.perf_counter() - start
            result = timed("label", partial(segmenter.segment, encoding, classes))
            frame = Frame(result, source.index, source.time_s, str(clip))
            timed("draw and write", partial(sink.write, frame))
            frames += 1
        timed("draw and write", sink.close)
    return {stage: 1e3 * seconds / frames for stage, seconds in spent.items()}, frames / encoding_s


def labels_are_equal(segmenter: Segmenter, classes: ClassEmbeddings, clip: Path) -> int:
    """The number of frames whose labels differ from those of `segment`."""
    frames = segmenter.stream(clip, classes)
    return sum(
        bool((frame.result.label_map != segmenter.segment(frame.result.image, classes).label_map).any())
        for frame in frames
    )
