"""The two encoders by themselves, in every baseline and every engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.layouts import CLASS_NAMES
from benchmarks.contenders.encoders import BASELINES, Contender, engine_contender, engine_name, torch_contenders
from benchmarks.contenders.roofline import Roofline, measure_roofline
from benchmarks.latency.setup import Setup
from benchmarks.latency.stages import padded_prompts
from benchmarks.latency.tables import Comparison, Row
from benchmarks.timing import Timing, cuda_in_turn, in_few_rounds, in_turn
from t2d_runtime.bench.stages import new_words

VOCABULARY = "coco_stuff171"
"""The largest vocabulary of the published evaluation."""

TORCH_CLASSES = 16
"""Classes that PyTorch encodes at a time: 112 prompts. All 1197 prompts at once are no faster."""


def image_encoders(setup: Setup) -> Comparison:
    """The image encoder on one window, with contenders in turn, and the machine's limit."""
    contenders = [
        *torch_contenders(setup.reference, setup.baselines),
        *map(engine_contender, setup.segmenters),
    ]
    window = setup.window[np.newaxis]
    on_cpu = {one.name: partial(one.encode, window) for one in contenders if not one.on_gpu}
    on_gpu = {one.name: partial(one.encode, window) for one in contenders if one.on_gpu}
    timings = in_turn(on_cpu, setup.rounds) | cuda_in_turn(on_gpu, setup.rounds)
    roofline = measure_roofline(setup.reference)
    rates = ", ".join(
        f"{rate / 1e12:.2f} TFLOP/s in {name} ({roofline.libraries[name]})"
        for name, rate in roofline.flop_per_second.items()
    )
    note = (
        f"The floor is the window's {roofline.encoder_flop / 1e9:.1f} GFLOP at the rate that nothing but matrix "
        f"products reach here: {rates}."
    )
    return Comparison("image encoder, one window", tuple(encoder_rows(contenders, timings, roofline)), note=note)


def encoder_rows(contenders: list[Contender], timings: dict[str, Timing], roofline: Roofline) -> list[Row]:
    """Times, ratios to the first contender, and the reached share of the machine's matrix rate."""
    first, rows = contenders[0].name, []
    for one in contenders:
        theirs = None if one.name == first else first
        floor = roofline.floor_ms(one.computes_in) if one.computes_in else None
        note = "" if floor is None else f"{floor / timings[one.name].median_ms:.0%} of the matrix rate"
        rows.append(Row.of(one.name, timings, one.name, theirs, their_name=first, floor=floor, note=note))
    return rows


def text_encoders(setup: Setup) -> Comparison:
    """Class names to embeddings. The runtime starts from names, PyTorch from token ids."""
    names: list[str] = json.loads(CLASS_NAMES.read_text(encoding="utf-8"))[VOCABULARY]
    ours = {engine_name(segmenter): new_words(segmenter, names) for segmenter in setup.segmenters}
    for call in ours.values():
        call()
    theirs = BASELINES["eager"]
    timings = in_few_rounds({theirs: _torch_words(setup, names), **ours}, warm_up=0)
    rows = [Row.of(name, timings, name, theirs, their_name=theirs) for name in ours]
    setup.segmenter.encode_classes(names)
    known = in_few_rounds({"known": partial(setup.segmenter.encode_classes, names)})
    rows.append(Row.of("the same names again, known", known, "known"))
    return Comparison(f"{len(names)} class names in 7 prompts each to embeddings", tuple(rows))


def _torch_words(setup: Setup, names: list[str]) -> Callable[[], list[Tensor]]:
    chunks = torch.split(padded_prompts(setup.segmenter, names), TORCH_CLASSES)

    @torch.inference_mode()
    def encode() -> list[Tensor]:
        return [setup.reference.text_embeds(chunk) for chunk in chunks]

    return encode
