"""The self-test: a bundle's own vectors, run on this machine and compared with the reference stage by stage.

The vectors hold an image, class names, and what the PyTorch reference made of them at export.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle import SELFTEST
from t2d_runtime.errors import BundleError, SelfTestError
from t2d_runtime.manifest import StageParity
from t2d_runtime.parity import SCORE_TOLERANCE, TOKEN_TOLERANCE, compare_labels, compare_values
from t2d_runtime.postprocess import image_scores, labels_of, window_scores
from t2d_runtime.preprocess import to_pixel_values
from t2d_runtime.refine import refine
from t2d_runtime.segmentation import ImageEncoding, SegmentationSettings
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.similarity import cosine_similarity
from t2d_runtime.text import build_prompts
from t2d_runtime.upsample import upsample
from t2d_runtime.windows import cut_windows

PLANE_STEP = 4
"""Full-size planes are stored at every fourth row and column."""

PIXEL_STEP = 7
"""Normalised pixels are stored at every seventh row and column."""


@dataclass(frozen=True)
class SelfTestVectors:
    """What selftest.npz holds; W windows, N classes, T prompts of L tokens. Floats are float32."""

    image: NDArray[np.uint8]
    """(H,W,3) RGB."""
    class_names: tuple[str, ...]
    input_ids: NDArray[np.int64]
    """(N,T,L)."""
    text_embeds: NDArray[np.float32]
    """(N,D)."""
    pixel_values: NDArray[np.float32]
    """(W,3,H,W) at every PIXEL_STEP."""
    patch_tokens: NDArray[np.float32]
    """(W,h,w,D)."""
    cls_attention: NDArray[np.float32]
    """(W,M,h,w)."""
    similarity: NDArray[np.float32]
    """(W,N,h,w)."""
    scores: NDArray[np.float32]
    """(W,N,h,w)."""
    cleaned_scores: NDArray[np.float32]
    """(W,N,h,w), official cleaning at the default weight."""
    upsampled: NDArray[np.float32]
    """(N,H,W) of the first window's cleaned scores, at every PLANE_STEP."""
    refined: NDArray[np.float32]
    """(N,H,W) after PAMR, at every PLANE_STEP."""
    stitched: NDArray[np.float32]
    """(N,H,W) of the whole image at its own size, cleaned and refined, at every PLANE_STEP."""
    label_map: NDArray[np.uint8]
    """(H,W) with background at the default threshold, cleaned and refined."""
    label_margin: NDArray[np.float32]
    """(H,W) best score less the second best, background included."""

    def save(self, path: Path) -> None:
        """Write an npz without pickles."""
        arrays = {**vars(self), "class_names": np.array(self.class_names)}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> SelfTestVectors:
        """Read what `save` wrote. Raises BundleError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays: dict[str, Any] = {name: archive[name] for name in cls.__dataclass_fields__}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise BundleError(f"{path} is not a self-test of this version ({error}); export again") from error
        arrays["class_names"] = tuple(str(name) for name in arrays["class_names"])
        return cls(**arrays)


def run_selftest(segmenter: Segmenter) -> tuple[StageParity, ...]:
    """Run the bundle's vectors through every stage on this machine; in the order of the stages."""
    vectors = SelfTestVectors.load(segmenter.bundle.file(SELFTEST))
    return tuple(_stages(segmenter, vectors))


def require_parity(stages: tuple[StageParity, ...], subject: str) -> None:
    """Raise SelfTestError, naming the first stage out of tolerance, where there is one."""
    failed = next((stage for stage in stages if not stage.passed), None)
    if failed is not None:
        raise SelfTestError(
            f"{subject}: stage {failed.stage!r} differs from the reference by {failed.max_abs_diff:.3g}, "
            f"tolerance {failed.tolerance:.3g}; see 't2d doctor', or choose another backend or precision"
        )


def _stages(segmenter: Segmenter, vectors: SelfTestVectors) -> Iterator[StageParity]:
    def tokens(stage: str, expected: NDArray[Any], got: NDArray[Any]) -> StageParity:
        return compare_values(stage, expected, got, tolerance=TOKEN_TOLERANCE, relative=True)

    def scores(stage: str, expected: NDArray[Any], got: NDArray[Any]) -> StageParity:
        return compare_values(stage, expected, got, tolerance=SCORE_TOLERANCE, relative=False)

    defaults = segmenter.manifest.defaults
    input_ids, classes = _text(segmenter, vectors)
    yield compare_values("input_ids", vectors.input_ids, input_ids, tolerance=0.0, relative=False)
    yield tokens("text_embeds", vectors.text_embeds, classes)

    encoding = segmenter.encode_image(vectors.image)
    yield scores("pixel_values", vectors.pixel_values, _pixel_values(segmenter, encoding))
    yield tokens("patch_tokens", vectors.patch_tokens, encoding.patch_tokens)
    yield tokens("cls_attention", vectors.cls_attention, encoding.cls_attention)

    settings = SegmentationSettings(
        background=True,
        cleaning=None,
        threshold=defaults.threshold,
        cleaning_weight=defaults.cleaning_weight,
        refine=True,
        window="slide",
        backend=segmenter.backend_name,
        precision=segmenter.precision,
    )
    W, h, w, D = encoding.patch_tokens.shape
    cosine = cosine_similarity(encoding.patch_tokens.reshape(W, h * w, D), classes)
    yield scores("similarity", vectors.similarity, cosine.reshape(W, -1, h, w))
    yield scores("scores", vectors.scores, window_scores(encoding, classes, settings))
    settings = replace(settings, cleaning="official")
    cleaned = window_scores(encoding, classes, settings)
    yield scores("cleaned_scores", vectors.cleaned_scores, cleaned)

    crop = cut_windows(encoding.resized, encoding.windows)[0]
    planes = upsample(cleaned[0], (crop.shape[0], crop.shape[1]), align_corners=True)
    yield scores("upsampled", vectors.upsampled, planes[:, ::PLANE_STEP, ::PLANE_STEP])
    refined = refine(crop, planes, defaults.pamr)
    yield scores("refined", vectors.refined, refined[:, ::PLANE_STEP, ::PLANE_STEP])
    stitched = image_scores(encoding, classes, settings, defaults.pamr)
    yield scores("stitched", vectors.stitched, stitched[:, ::PLANE_STEP, ::PLANE_STEP])
    yield compare_labels("label_map", vectors.label_map, labels_of(stitched, settings), vectors.label_margin)


def _text(segmenter: Segmenter, vectors: SelfTestVectors) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    templates = segmenter.manifest.prompt_sets["subset"]
    prompts = build_prompts(vectors.class_names, templates)
    ids = segmenter.tokenize([prompt for group in prompts for prompt in group])
    classes = segmenter.encode_classes(vectors.class_names, templates)
    return ids.reshape(len(vectors.class_names), len(templates), -1), classes.vectors


def _pixel_values(segmenter: Segmenter, encoding: ImageEncoding) -> NDArray[np.float32]:
    crops = cut_windows(encoding.resized, encoding.windows)
    manifest = segmenter.manifest
    values = to_pixel_values(crops, manifest.model.input_size, manifest.preprocessing)
    return values[:, :, ::PIXEL_STEP, ::PIXEL_STEP]
