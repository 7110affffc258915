"""Rows of many images: files read one after the other, and as stages that overlap."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.contenders.picture import photograph
from benchmarks.contenders.planted import planted_classes
from benchmarks.pipeline.rows import Row, faster
from benchmarks.pipeline.setup import Setup

NUM_IMAGES = 6
SIZE = 480, 640
"""COCO's most frequent (height, width): two windows."""

NUM_CLASSES = 20


def image_rows(setup: Setup) -> list[Row]:
    """JPEG files to labels with 20 classes, background, cleaning and PAMR, in the fastest precision."""
    segmenter = setup.fast
    picture = photograph(SIZE)
    classes = planted_classes(segmenter, segmenter.encode_image(picture), NUM_CLASSES)
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{number}.jpg" for number in range(NUM_IMAGES)]
        for number, path in enumerate(paths):
            Image.fromarray(picture[:, number:]).save(path, quality=90)

        def one_by_one() -> None:
            for path in paths:
                segmenter.segment(path, classes, background=True, refine=True)

        def overlapped() -> None:
            for _ in segmenter.segment_batch(paths, classes, background=True, refine=True):
                pass

        timings = setup.time_slow({"one by one": one_by_one, "segment_batch": overlapped}, "one by one")
    rate = NUM_IMAGES * 1e3 / timings["segment_batch"].median_ms
    what = f"{SIZE[1]} x {SIZE[0]} JPEG files, {NUM_CLASSES} classes, background, cleaning, PAMR, {segmenter.precision}"
    return [
        Row(what, rate, "images/s", rounds=setup.slow_rounds),
        faster("the same, segment_batch over one by one", timings, "one by one", "segment_batch"),
    ]
