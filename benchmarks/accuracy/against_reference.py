"""Compares a bundle with the PyTorch model that it was exported from, on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.evaluation import Evaluation
from benchmarks.accuracy.labelling import BundleRecipe, Labelled, Labeller, Pixels
from benchmarks.accuracy.metric import label_areas, mean_iou, pixel_accuracy, to_matrix
from benchmarks.contenders.prompts import prompt_ids
from t2d_runtime.bundle.manifest import Manifest
from t2d_runtime.errors import OptionError
from t2d_runtime.proof.parity import LABEL_MARGIN
from t2d_runtime.results.label_map import LabelMap

if TYPE_CHECKING:
    from torch import Tensor

    from t2d_export.export import ExportSettings
    from t2d_export.model.reference import Reference
    from t2d_runtime import Segmenter

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
SEED: Final = 0
"""Seed of the bootstrap over images."""


@dataclass(frozen=True, eq=False)
class ComparedRecipe:
    """A bundle and its reference, with the same words and settings."""

    bundle: BundleRecipe
    weights: ExportSettings
    """Settings of the bundle's export."""
    input_ids: NDArray[np.int64]
    """(N,T,L) token ids of the classes' prompts."""
    threshold: float
    cleaning_weight: float

    def open(self) -> Labeller:
        """Open both sides. Raises the errors of the bundle's recipe and of `load_reference`."""
        import torch

        label_with_bundle = self.bundle.open()
        if self.bundle.num_threads is not None:
            torch.set_num_threads(self.bundle.num_threads)
        reference = self.weights.load_reference()
        with torch.inference_mode():
            text_embeds = reference.text_embeds(torch.from_numpy(self.input_ids))

        def label(image: Pixels) -> Labelled:
            labels = label_with_bundle(image).labels
            scores = reference.segment_sliding(
                torch.from_numpy(image).permute(2, 0, 1),
                text_embeds,
                cleaning="official" if self.bundle.cleaning else None,
                cleaning_weight=self.cleaning_weight,
                refine=self.bundle.refine,
            )
            return Labelled(labels, *_ranked(scores, self.threshold if self.bundle.background else None, labels.dtype))

        return label


def _ranked(scores: Tensor, threshold: float | None, dtype: np.dtype[Any]) -> tuple[LabelMap, NDArray[np.float32]]:
    """Labels and margins of scores (N,H,W)."""
    from t2d_export.model.reference_masks import with_background

    planes = scores if threshold is None else with_background(scores, threshold)
    labels = planes.argmax(dim=0).numpy().astype(dtype)
    if len(planes) == 1:
        return labels, np.full(labels.shape, np.inf, np.float32)
    best, second = planes.topk(2, dim=0).values
    return labels, (best - second).numpy()


def compared(recipe: BundleRecipe, weights: ExportSettings, segmenter: Segmenter) -> ComparedRecipe:
    """The recipe of both sides. Raises OptionError where the weights are not those of the bundle."""
    manifest = segmenter.manifest
    _check_same_weights(manifest, weights.load_reference())
    return ComparedRecipe(
        bundle=recipe,
        weights=weights,
        input_ids=prompt_ids(segmenter, recipe.classes.names),
        threshold=manifest.defaults.threshold,
        cleaning_weight=manifest.defaults.cleaning_weight,
    )


def _check_same_weights(manifest: Manifest, reference: Reference) -> None:
    for part, source in manifest.sources.items():
        given = reference.sources[part]
        if source.sha256 != given.sha256:
            raise OptionError(
                f"the {part} weights are {given.name} (sha256 {given.sha256}), the bundle was exported from "
                f"{source.name} (sha256 {source.sha256}); give --backbone and the weights as to 't2d-export bundle'"
            )


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """mIoU of both, their difference with its confidence interval, and the pixels whose labels differ."""
    against = [record.against for record in evaluation.records if record.against is not None]
    ours, theirs = evaluation.confusion, evaluation.reference_confusion
    areas = [
        np.stack([label_areas(to_matrix(cells, evaluation.num_labels)) for cells in side])
        for side in ([record.cells for record in evaluation.records], [image.cells for image in against])
    ]
    pixels, differing = sum(image.pixels for image in against), sum(image.differing for image in against)
    below = sum(image.below_margin for image in against)
    return {
        "miou": mean_iou(theirs),
        "pixel_accuracy": pixel_accuracy(theirs),
        "miou_difference": mean_iou(ours) - mean_iou(theirs),
        "miou_difference_interval": difference_interval(areas[0], areas[1]),
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "seed": SEED,
        "label_agreement": 1 - differing / pixels,
        "differing_pixels": differing,
        "differing_below_margin": below / differing if differing else None,
        "margin": LABEL_MARGIN,
        "largest_margin": max(image.largest_margin for image in against),
    }


def difference_interval(
    first: NDArray[np.int64], second: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Confidence interval of the first mIoU minus the second, from a paired bootstrap over images (percentiles).

    Arguments are areas (images, 3, N) of intersection, result and truth. The same images are drawn for both.
    """
    rng = np.random.default_rng(seed)
    images = len(first)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    differences = _resampled_miou(draws, first) - _resampled_miou(draws, second)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)


def _resampled_miou(draws: NDArray[np.int64], areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """mIoU (B,) of B draws (B, images), which hold the number of times each image counts."""
    weights = draws.astype(np.float64)
    intersection, result, truth = (weights @ areas[:, part].astype(np.float64) for part in range(3))
    union = result + truth - intersection
    occurs = union > 0
    ratio = np.divide(intersection, union, out=np.zeros_like(union), where=occurs)
    means: NDArray[np.float64] = ratio.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return means


def least_agreeing(evaluation: Evaluation, count: int) -> list[str]:
    """Names of the images with the largest share of differing pixels, the worst first. Equal ones are left out."""
    shares = {
        record.name: record.against.differing / record.against.pixels
        for record in evaluation.records
        if record.against is not None and record.against.differing
    }
    return sorted(shares, key=lambda name: (-shares[name], name))[:count]
