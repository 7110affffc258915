"""Whole windows from pixels to labels, against PyTorch as released and plain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.contenders.baselines import TorchWindow, plain_pamr, released_pamr
from benchmarks.contenders.encoders import engine_name
from benchmarks.latency.setup import Setup
from benchmarks.latency.tables import Comparison, Row
from benchmarks.timing import in_few_rounds

RELEASED, PLAIN = "PyTorch as released", "plain PyTorch"

FEW, MANY = 20, 171
"""Numbers of classes of Pascal VOC, with background, and of COCO-Stuff."""


def windows(setup: Setup) -> Comparison:
    """Time of one window with PAMR in every engine, against both forms of PyTorch. The released one takes minutes."""
    rows = [*_windows(setup, FEW, background=True), *_windows(setup, MANY, background=False)]
    note = (
        "As released: PAMR on tensors of 48 neighbours, its affinity computed again for every 30 classes. Plain: the "
        "same sums as shifted multiply-adds, the affinity once. Labels equal: those of plain PyTorch."
    )
    return Comparison("one window, pixels to labels with PAMR", tuple(rows), note=note)


def _windows(setup: Setup, count: int, *, background: bool) -> list[Row]:
    classes = setup.planted(count)
    torch_window, embeds = TorchWindow(setup.reference, setup.window), torch.from_numpy(classes.vectors.copy())
    theirs: dict[str, Callable[[], Any]] = {
        name: partial(torch_window.labels, embeds, background=background, pamr=pamr)
        for name, pamr in ((RELEASED, released_pamr), (PLAIN, plain_pamr))
    }
    ours: dict[str, Callable[[], Any]] = {
        engine_name(segmenter): partial(segmenter.segment, setup.window, classes, background=background, refine=True)
        for segmenter in setup.segmenters
    }
    expected = theirs[PLAIN]()
    equal = {name: float((call().label_map == expected).mean()) for name, call in ours.items()}
    timings = in_few_rounds(theirs | ours, warm_up=0)
    what = f"{count} classes" + ", background, cleaning" * background
    return [
        Row.of(what, timings, one, other, our_name=one, their_name=other, note=f"{equal[one]:.3%} of the labels equal")
        for other in theirs
        for one in ours
    ]
