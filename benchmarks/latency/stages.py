"""One window, stage by stage. PyTorch's stages (plain, float32, eager) have the names of `t2d_runtime.bench.stages`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.contenders.baselines import TorchWindow, plain_pamr
from benchmarks.contenders.encoders import BASELINES, engine_name
from benchmarks.contenders.prompts import prompt_ids
from benchmarks.latency.setup import Setup
from benchmarks.latency.tables import Comparison, Row
from benchmarks.timing import in_turn
from t2d_export.model.reference import Reference
from t2d_export.model.reference_masks import clean_official, cosine_similarity, upsample, with_background
from t2d_runtime.bench.stages import WHOLE, WHOLE_REFINED, WORDS, Stages, stages_of
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.reading import load_image
from t2d_runtime.image.windows import size_of
from t2d_runtime.segmenter import Segmenter

OURS, THEIRS = "runtime", BASELINES["eager"]


def stages(setup: Setup) -> Comparison:
    """Every stage of one window with background. Where PyTorch has the stage too, both sides take turns."""
    segmenter, classes = setup.segmenter, setup.planted(len(setup.words))
    ours = stages_of(segmenter, setup.window, setup.words, classes=classes, num_threads=setup.threads)
    ours["decode"] = partial(load_image, setup.image)
    ours["resize"] = partial(resize, setup.pixels, segmenter.manifest.windows.crop_size)
    embeds, ids = torch.from_numpy(classes.vectors.copy()), padded_prompts(segmenter, setup.words)
    theirs = torch_stages(setup.reference, setup.window, embeds, ids, segmenter.manifest.defaults.cleaning_weight)
    rows = []
    for name, call in ours.items():
        sides: dict[str, Callable[[], object]] = {THEIRS: theirs[name]} if name in theirs else {}
        timings = in_turn(sides | {OURS: call}, setup.rounds)
        rows.append(Row.of(name, timings, OURS, next(iter(sides), None), our_name=OURS, their_name=THEIRS))
    note = (
        f"The runtime is {engine_name(segmenter)}. Each of the {len(setup.words)} classes wins somewhere, so that PAMR "
        "refines them all. Reading and resizing the image are timed in the runtime alone."
    )
    return Comparison("one window with background and cleaning", tuple(rows), note=note)


def torch_stages(
    reference: Reference, window: NDArray[np.uint8], embeds: Tensor, input_ids: Tensor, cleaning_weight: float
) -> Stages:
    """Stages of a window (h,w,3) with classes (N,D), each on the last one's result; and of token ids (N,T,L)."""
    torch_window = TorchWindow(reference, window)
    size = size_of(window)
    tokens, attention, _ = torch_window.encode()
    similarity = cosine_similarity(tokens, embeds)
    cleaned = clean_official(similarity.sigmoid(), tokens, attention, embeds, cleaning_weight)
    patches = cleaned.reshape(-1, *reference.backbone.grid_size)
    planes = upsample(patches, size, align_corners=True)
    with torch.inference_mode():
        refined = plain_pamr(torch_window.pixels, planes)

    def label(planes: Tensor) -> Tensor:
        return with_background(planes, reference.threshold).argmax(dim=0)

    calls: Stages = {
        "encode": torch_window.encode,
        "similarity": lambda: cosine_similarity(tokens, embeds).sigmoid(),
        "cleaning": lambda: clean_official(similarity.sigmoid(), tokens, attention, embeds, cleaning_weight),
        "labels": lambda: label(upsample(patches, size, align_corners=True)),
        "upsampling": partial(upsample, patches, size, align_corners=True),
        "PAMR": partial(plain_pamr, torch_window.pixels, planes),
        "labels after PAMR": partial(label, refined),
        WHOLE: partial(torch_window.labels, embeds, background=True, pamr=None),
        WHOLE_REFINED: partial(torch_window.labels, embeds, background=True, pamr=plain_pamr),
        WORDS: partial(reference.text_embeds, input_ids),
    }
    return {name: torch.inference_mode()(call) for name, call in calls.items()}


def padded_prompts(segmenter: Segmenter, words: Sequence[str]) -> Tensor:
    """Token ids (N,T,L) of words in the default prompts, padded to the context, as PyTorch always needs them."""
    ids = torch.from_numpy(prompt_ids(segmenter, words))
    return functional.pad(ids, (0, segmenter.manifest.model.context_length - ids.shape[-1]))
