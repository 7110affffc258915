"""Rows of whole windows: from pixels to labels, and what follows the encoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders.baselines import Pamr, TorchPipeline, plain_pamr, released_pamr
from benchmarks.pipeline.rows import Row, faster, medians
from benchmarks.pipeline.setup import Setup
from benchmarks.timing import ratio
from t2d_runtime.proof.parity import GATES, LABEL_MARGIN, compare_labels
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.vocabulary import ClassEmbeddings

FEW, MANY = 20, 171
"""Classes of Pascal VOC and of COCO-Stuff."""

RELEASED, PLAIN, FP32, FAST = "released", "plain", "fp32", "fast"


def window_20_rows(setup: Setup) -> list[Row]:
    """20 classes, background, cleaning, PAMR against both baselines."""
    classes = setup.planted(FEW)
    contenders = {
        RELEASED: _torch(setup, released_pamr, classes, background=True),
        PLAIN: _torch(setup, plain_pamr, classes, background=True),
        FP32: _runtime(setup, setup.segmenter(), classes, background=True),
        FAST: _runtime(setup, setup.fast, classes, background=True),
    }
    timings = setup.time_slow(contenders, RELEASED)
    rows = []
    for slow, bar, aim in ((RELEASED, 30.0, 60.0), (PLAIN, 3.5, 5.0)):
        for fast in (FP32, FAST):
            what = f"window, {FEW} classes, background, cleaning, PAMR: {fast} over {slow}"
            rows.append(faster(what, timings, slow, fast, bar=bar, aim=aim, note=_engine(setup, fast)))
    return rows


def window_171_rows(setup: Setup) -> list[Row]:
    """171 classes and PAMR against the released form, which takes minutes."""
    classes = setup.planted(MANY)
    contenders = {
        RELEASED: _torch(setup, released_pamr, classes, background=False),
        FP32: _runtime(setup, setup.segmenter(), classes, background=False),
        FAST: _runtime(setup, setup.fast, classes, background=False),
    }
    timings = setup.time_slow(contenders, RELEASED, rounds=1)
    what = f"window, {MANY} classes, PAMR"
    return [
        faster(f"{what}: {fast} over released", timings, RELEASED, fast, bar=60, aim=150, note=_engine(setup, fast))
        for fast in (FP32, FAST)
    ]


def label_rows(setup: Setup) -> list[Row]:
    """Labels of the runtime against the reference's, with 20 classes, background, cleaning and PAMR."""
    classes = setup.planted(FEW)
    pipeline = TorchPipeline(setup.reference, plain_pamr)
    encoded, text_embeds = pipeline.encode(setup.window), torch.tensor(classes.vectors)
    planes = pipeline.planes(setup.window, encoded, text_embeds, background=True, refine=True).numpy()
    best, second = np.sort(planes, axis=0)[:-3:-1]
    rows = []
    for name, segmenter in {FP32: setup.segmenter(), FAST: setup.fast}.items():
        labels = segmenter.segment(setup.window, classes, background=True, refine=True).label_map
        parity = compare_labels("labels", planes.argmax(axis=0), labels, best - second)
        agreement = parity.label_agreement or 0.0
        if segmenter.precision == "fp32":
            note = f"{parity.share_below_margin:.3%} of the pixels have a smaller margin; {agreement:.3%} agree in all"
            what = f"labels that differ beyond a margin of {LABEL_MARGIN}, {name}"
            rows.append(Row(what, parity.max_abs_diff, "pixels", 0, at_most=True, note=note))
        else:
            least = GATES[segmenter.precision].label_agreement
            rows.append(Row(f"labels that agree, {name}", agreement, "share", least, note=_engine(setup, name)))
    return rows


def after_encoder_rows(setup: Setup) -> list[Row]:
    """Everything after the encoder, in units of the encoder's own time in bfloat16."""
    classes, encoding = setup.planted(FEW), setup.encoding
    refusal = setup.refusal("openvino", "bf16")
    encoder = setup.fast if refusal else setup.segmenter("openvino", "bf16")
    segment = partial(setup.segmenter().segment, encoding, classes, background=True, refine=True)
    timings = setup.time(
        {"after": segment, "encoder": partial(encoder.encoders.run_image_encoder, setup.window[np.newaxis])}
    )
    what = f"everything after the encoder, {FEW} classes, cleaning, PAMR, over the encoder in bf16"
    note = f"{refusal}: the encoder in {encoder.precision}" if refusal else ""
    value = ratio(timings["after"], timings["encoder"])
    return [Row(what, value, "x", 1, 0.5, True, note, medians(timings), setup.rounds)]


def other_words_rows(setup: Setup) -> list[Row]:
    """Other words on an encoded image, without PAMR: their embeddings at hand, or encoded too."""
    segmenter, encoding, planted = setup.segmenter(), setup.encoding, setup.planted(FEW)
    calls = 0

    def with_new_words() -> None:
        nonlocal calls
        calls += 1
        words = segmenter.encode_classes([f"thing {number} of {calls}" for number in range(FEW)])
        segmenter.segment(encoding, words)

    timings = setup.time({"embedded": partial(segmenter.segment, encoding, planted), "new": with_new_words})
    found = medians(timings)
    what = f"other words on an encoded image, {FEW} classes, no PAMR"
    return [
        Row(what, found["embedded"], "ms", 30, at_most=True, medians_ms=found, rounds=setup.rounds),
        Row(f"the same, the words never seen before, {segmenter.precision}", found["new"], "ms", rounds=setup.rounds),
    ]


def _torch(setup: Setup, pamr: Pamr, classes: ClassEmbeddings, *, background: bool) -> Callable[[], NDArray[np.int64]]:
    pipeline = TorchPipeline(setup.reference, pamr)
    text_embeds = torch.tensor(classes.vectors)

    def segment() -> NDArray[np.int64]:
        encoded = pipeline.encode(setup.window)
        return pipeline.labels(setup.window, encoded, text_embeds, background=background, refine=True)

    return segment


def _runtime(setup: Setup, segmenter: Segmenter, classes: ClassEmbeddings, *, background: bool) -> Callable[[], object]:
    return partial(segmenter.segment, setup.window, classes, background=background, refine=True)


def _engine(setup: Setup, name: str) -> str:
    segmenter = setup.fast if name == FAST else setup.segmenter()
    return f"{segmenter.precision} on {segmenter.backend_name}"
