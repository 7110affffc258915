"""Validation of the small model: chooses the threshold for its config, and measures its mIoU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from tqdm import tqdm

from t2d_export.bundle.prompt_sets import PROMPT_SETS
from t2d_export.model.reference import Reference
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from training.drawing.concepts import CONCEPTS, INDEX
from training.drawing.scene_masks import BACKGROUND, IntersectionOverUnion, named_half, with_background
from training.drawing.scenes import Scene, draw_scenes

THRESHOLDS: Final = tuple(round(0.5 + 0.005 * step, 3) for step in range(51))
"""Scores of cosines from 0 to 1.1, the last above every score."""


@dataclass(frozen=True)
class Validation:
    """Results on the validation scenes: the threshold, mIoU with all words of the scene and with half of them."""

    threshold: float
    present: float
    background: float


def validate(reference: Reference, count: int, series: int) -> Validation:
    """Choose the threshold of the best mIoU on `count` scenes with background and official cleaning, without PAMR."""
    embeds = dict(zip(CONCEPTS, _class_embeddings(reference), strict=True))
    present = IntersectionOverUnion()
    by_threshold = {threshold: IntersectionOverUnion() for threshold in THRESHOLDS}
    for index, scene in enumerate(
        tqdm(draw_scenes(count, series, progress=False), total=count, desc="validation", unit="scene", disable=None)
    ):
        labels, _ = _best(reference, scene, scene.concepts, embeds, background=False)
        present.add(labels, scene.labels)
        named = named_half(scene, series, index)
        labels, scores = _best(reference, scene, named, embeds, background=True)
        truth = with_background(scene.labels, named)
        for threshold, judged in by_threshold.items():
            judged.add(np.where(scores > threshold, labels, np.uint8(BACKGROUND)), truth)
    threshold = max(THRESHOLDS, key=lambda candidate: by_threshold[candidate].mean())
    return Validation(threshold, present.mean(), by_threshold[threshold].mean())


def _class_embeddings(reference: Reference) -> Tensor:
    templates = PROMPT_SETS[DEFAULT_PROMPTS]
    ids = SimpleTokenizer()([template.format(name) for name in CONCEPTS for template in templates])
    with torch.inference_mode():
        return reference.text_embeds(ids.view(len(CONCEPTS), len(templates), -1))


def _best(
    reference: Reference, scene: Scene, names: tuple[str, ...], embeds: dict[str, Tensor], *, background: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Concept index and score of every pixel's best word."""
    window = torch.from_numpy(scene.image).permute(2, 0, 1)
    words = torch.stack([embeds[name] for name in names])
    planes = reference.segment_window(window, words, cleaning="official" if background else None)
    scores, places = planes.max(dim=0)
    numbers = np.asarray([INDEX[name] for name in names], dtype=np.uint8)
    return numbers[places.numpy()], scores.numpy()
