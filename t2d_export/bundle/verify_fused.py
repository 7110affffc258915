"""Verification of the fused graph: scores against the PyTorch reference, labels against the runtime's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2d_export.bundle.emulation import Emulation
from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.files import SELFTEST, Bundle
from t2d_runtime.bundle.manifest import StageParity, WindowSettings, first_failure
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import OptionError, VerificationError
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.image.windows import resized_size
from t2d_runtime.masks.phrases import row_thresholds
from t2d_runtime.masks.postprocess import image_scores, labels_of
from t2d_runtime.proof.parity import Judge, compare_labels, gate_labels, margin_of, with_background
from t2d_runtime.proof.selftest import SelfTestVectors
from t2d_runtime.results.label_map import LabelMap
from t2d_runtime.words.vocabulary import ClassEmbeddings

LABEL_AGREEMENT = 0.999
"""Least share of float32 labels that equal the runtime's, for images of any size, which the graph resizes itself.

Below float32 the precision's own gate applies, since engines round the same encoder differently inside another graph.
"""


OWN_THRESHOLD = 0.01
"""Distance of the classes' own thresholds from the manifest's, in turn above and below."""


def check_fusible(windows: WindowSettings) -> None:
    """Raise OptionError where the fused graph would resize every window of the self-test."""
    if resized_size(windows.crop_size, windows) != windows.crop_size:
        raise OptionError(
            f"a fused graph needs windows as large as the short side, to be verified on one; the model has windows of "
            f"{windows.crop_size} and a short side of {windows.short_side}; export without --fused"
        )


def require_fused_verified(folder: Path, precision: str) -> None:
    """Raise VerificationError, which names the stage, where the fused graph of a precision is out of tolerance."""
    failed = first_failure(verify_fused(folder, precision))
    if failed is not None:
        raise VerificationError(
            f"verification of the fused graph in {precision} failed: {failed.verdict}; nothing was written"
        )


def verify_fused(folder: Path, precision: str) -> Iterator[StageParity]:
    """Scores on the self-test's first window, then labels on that window, on the whole picture and on a narrow one."""
    bundle = Bundle.open(folder)
    backend: Backend = open_backend("onnxruntime") if precision == "fp32" else Emulation()
    fused = FusedSegmenter(bundle, backend, precision=precision)
    yield from fused.selftest()
    runtime = Encoders(bundle, backend, precision=precision)
    vectors = SelfTestVectors.load(bundle.file(SELFTEST))
    classes = ClassEmbeddings(vectors.class_names, vectors.text_embeds, bundle.vocabulary_digest)
    window = vectors.first_window(bundle.manifest.windows)
    judge = Judge.of(precision)
    yield judge.labels("labels of a window", *_labels(window, classes, runtime, fused, refine=True))
    own = replace(classes, thresholds=_apart(classes, bundle.manifest.defaults.threshold))
    yield judge.labels("labels by thresholds of classes", *_labels(window, own, runtime, fused, refine=False))
    least = judge.gates.label_agreement if judge.gates else LABEL_AGREEMENT
    for name, image in (("a picture", vectors.image), ("a narrow picture", vectors.image[:, : window.shape[1] // 5])):
        compared = compare_labels(f"labels of {name}", *_labels(image, classes, runtime, fused, refine=False))
        yield gate_labels(compared, least)


def _apart(classes: ClassEmbeddings, threshold: float) -> dict[str, float]:
    """A threshold from 0 to 1 for each class, in turn above and below the given one."""
    steps = (OWN_THRESHOLD * (-1) ** index for index in range(len(classes)))
    return {name: min(1.0, max(0.0, threshold + step)) for name, step in zip(classes.names, steps, strict=True)}


def _labels(
    image: NDArray[np.uint8], classes: ClassEmbeddings, runtime: Encoders, fused: FusedSegmenter, *, refine: bool
) -> tuple[LabelMap, LabelMap, NDArray[np.float32]]:
    """Labels (H,W) with background of the runtime and of the fused graph, and the margin of the runtime's."""
    got = fused.segment(image, classes, background=True, refine=refine)
    scores = image_scores(runtime.encode_image(image, "whole"), classes.vectors, got.settings)
    thresholds = row_thresholds(classes, got.settings.threshold)
    if thresholds is None:
        margin = margin_of(with_background(scores, got.settings.threshold))
    else:
        margin = margin_of(with_background(scores - thresholds[:, np.newaxis, np.newaxis], 0.0))
    return labels_of(scores, got.settings, thresholds), got.label_map, margin
