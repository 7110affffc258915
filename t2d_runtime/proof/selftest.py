"""The self-test: runs a bundle's own vectors on this machine and compares them with the reference, stage by stage.

The vectors hold an image, class names, and the outputs of the PyTorch reference for them at export.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.files import SELFTEST
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS, StageParity, WindowSettings, first_failure
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BundleError, BundleNotFoundError, SelfTestError
from t2d_runtime.image.preprocess import resize, to_pixel_values
from t2d_runtime.image.windows import cut_windows, resized_size, size_of, window_boxes
from t2d_runtime.masks.pamr.refine import refine
from t2d_runtime.masks.postprocess import image_scores, labels_of, window_scores
from t2d_runtime.masks.similarity import cosine_similarity
from t2d_runtime.masks.upsample import upsample
from t2d_runtime.proof.parity import SCORE_TOLERANCE, Judge, compare_values
from t2d_runtime.results.options import resolve_options
from t2d_runtime.storage.npz import NPZ_ERRORS, read_npz
from t2d_runtime.words.text import build_prompts

logger = logging.getLogger(__name__)

PLANE_STEP = 4
"""Full-size planes are stored at every fourth row and column."""

PIXEL_STEP = 7
"""Normalised pixels are stored at every seventh row and column."""


@dataclass(frozen=True)
class SelfTestVectors:
    """The content of selftest.npz: W windows, N classes, T prompts of L tokens. Floats are float32."""

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
            found = read_npz(path)
            arrays: dict[str, Any] = {name: found[name] for name in cls.__dataclass_fields__}
        except NPZ_ERRORS as error:
            raise BundleError(f"{path} is not a self-test of this version ({error}); export again") from error
        arrays["class_names"] = tuple(str(name) for name in arrays["class_names"])
        return cls(**arrays)

    def first_window(self, settings: WindowSettings) -> NDArray[np.uint8]:
        """The pixels (h,w,3) of the first window, from which `upsampled` and `refined` were made."""
        resized = resize(self.image, resized_size(size_of(self.image), settings))
        boxes = window_boxes(size_of(resized), settings)
        window: NDArray[np.uint8] = cut_windows(resized, boxes[:1])[0]
        return window


def run_selftest(encoders: Encoders, *, masks: bool = True) -> tuple[StageParity, ...]:
    """Run the bundle's vectors through every stage on this machine; returns the stages in their order.

    Without `masks` it ends with the patches' scores, the last stage that depends on the engine alone. Where the text
    encoder was left off this device, its stages are skipped, which is logged, and the reference's embeddings are used.
    """
    vectors = SelfTestVectors.load(encoders.bundle.file(SELFTEST))
    run = _Run(encoders, vectors)
    return (*run.encoder_stages(), *(run.mask_stages() if masks else ()))


def require_parity(stages: tuple[StageParity, ...], subject: str, expected: str = "the reference's outputs") -> None:
    """Raise SelfTestError, naming the first stage out of tolerance, where there is one."""
    failed = first_failure(stages)
    if failed is not None:
        raise SelfTestError(
            f"{subject} does not give {expected}: {failed.verdict}; choose another backend or precision, "
            "see 't2d doctor'"
        )


class _Run:
    """The vectors' image and words through a bundle's encoders."""

    def __init__(self, encoders: Encoders, vectors: SelfTestVectors) -> None:
        self._encoders = encoders
        self._expected = vectors
        self._judge = Judge.of(encoders.precision)
        self._settings = resolve_options(
            {"background": True, "refine": True},
            encoders.manifest.defaults,
            window="slide",
            backend=encoders.backend.name,
            precision=encoders.precision,
        )
        self._encoded = _encoded_classes(encoders, vectors.class_names)
        self._classes = vectors.text_embeds if self._encoded is None else self._encoded
        self._encoding = encoders.encode_image(vectors.image)
        self._crops = cut_windows(self._encoding.resized, self._encoding.windows)
        self._cleaned = window_scores(self._encoding, self._classes, self._settings)

    def encoder_stages(self) -> Iterator[StageParity]:
        """Both encoders' inputs and outputs, and the patches' scores that follow from them."""
        expected, encoding, classes, judge = self._expected, self._encoding, self._classes, self._judge
        if self._encoded is not None:
            ids = _input_ids(self._encoders, expected.class_names)
            yield compare_values("input_ids", expected.input_ids, ids, tolerance=0.0, relative=False)
            yield judge.features("text_embeds", expected.text_embeds, self._encoded)
        pixels = _pixel_values(self._encoders, self._crops)
        yield compare_values("pixel_values", expected.pixel_values, pixels, tolerance=SCORE_TOLERANCE, relative=False)
        yield judge.features("patch_tokens", expected.patch_tokens, encoding.patch_tokens)
        yield judge.features("cls_attention", expected.cls_attention, encoding.cls_attention)
        W, h, w, D = encoding.patch_tokens.shape
        cosine = cosine_similarity(encoding.patch_tokens.reshape(W, h * w, D), classes)
        yield judge.scores("similarity", expected.similarity, cosine.reshape(W, -1, h, w))
        scores = window_scores(encoding, classes, replace(self._settings, cleaning=None))
        yield judge.scores("scores", expected.scores, scores)
        yield judge.scores("cleaned_scores", expected.cleaned_scores, self._cleaned)

    def mask_stages(self) -> Iterator[StageParity]:
        """The stages in NumPy after the scores: upsampled, refined, stitched, labelled."""
        expected, judge, pamr = self._expected, self._judge, self._encoders.manifest.defaults.pamr
        crop = self._crops[0]
        planes = upsample(self._cleaned[0], size_of(crop), align_corners=True)
        yield judge.scores("upsampled", expected.upsampled, planes[:, ::PLANE_STEP, ::PLANE_STEP])
        refined = refine(crop, planes, pamr)
        yield judge.scores("refined", expected.refined, refined[:, ::PLANE_STEP, ::PLANE_STEP])
        stitched = image_scores(self._encoding, self._classes, self._settings)
        yield judge.scores("stitched", expected.stitched, stitched[:, ::PLANE_STEP, ::PLANE_STEP])
        yield judge.labels("label_map", expected.label_map, labels_of(stitched, self._settings), expected.label_margin)


def _encoded_classes(encoders: Encoders, class_names: tuple[str, ...]) -> NDArray[np.float32] | None:
    """Embeddings (N,D); None where the text encoder's files were left off this device."""
    try:
        return encoders.encode_classes(class_names, DEFAULT_PROMPTS).vectors
    except BundleNotFoundError as error:
        logger.warning("the self-test leaves out input_ids and text_embeds: %s", error)
        return None


def _input_ids(encoders: Encoders, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    templates = encoders.manifest.prompt_sets[DEFAULT_PROMPTS]
    prompts = build_prompts(class_names, templates)
    ids = encoders.tokenize([prompt for group in prompts for prompt in group])
    return ids.reshape(len(class_names), len(templates), -1)


def _pixel_values(encoders: Encoders, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    manifest = encoders.manifest
    values = to_pixel_values(crops, manifest.model.input_size, manifest.preprocessing)
    return values[:, :, ::PIXEL_STEP, ::PIXEL_STEP]
