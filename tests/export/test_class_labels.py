"""Phrases, negatives and thresholds of classes: the runtime's labels are the PyTorch reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from t2d_export.model.reference import load_reference
from t2d_export.model.reference_masks import class_labels, confidence
from t2d_runtime import Segmenter
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.proof.parity import LABEL_MARGIN

MODEL = Path(__file__).parents[2] / "models" / "tiny"
CLASSES = {"thing": ["person", "umbrella", "boat"], "plant": ["tree", "flower"], "sky": "sky"}
NEGATIVES = ["sea"]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("engine", ["runtime", "onnxruntime", "openvino"])
def test_labels_are_the_references(exported_bundle: Path, engine: str, background: bool) -> None:
    """Those of the runtime, and of the fused graph on each engine, from one window that nothing resizes."""
    segmenter = Segmenter.open(exported_bundle, backend="onnxruntime")
    side = segmenter.manifest.windows.short_side
    image = data.astronaut()[:200, :300] if engine == "runtime" else data.astronaut()[:side, :side]
    thresholds = {"thing": 0.57, "sky": 0.54} if background else {}
    classes = segmenter.encode_classes(CLASSES, negatives=NEGATIVES, thresholds=thresholds)
    reference, pixels = load_reference(backbone=str(MODEL)), torch.from_numpy(image.copy()).permute(2, 0, 1)
    cleaning: Any = "official" if background else None
    scores = reference.segment_sliding(pixels, torch.from_numpy(classes.vectors.copy()), cleaning=cleaning)
    default = segmenter.manifest.defaults.threshold
    of_rows = [0.57] * 3 + [default] * 2 + [0.54] + [default] if background else None
    expected = class_labels(scores, classes.class_indices or (), of_rows).numpy()
    options: Any = {"background": background, "keep_confidence": True}
    if engine == "runtime":
        got = segmenter.segment(image, classes, **options)
    else:
        got = FusedSegmenter.open(exported_bundle, backend=engine).segment(image, classes, **options)
    shifted = scores.numpy() - (np.array(of_rows)[:, None, None] if of_rows else 0)
    planes = np.concatenate([np.zeros((1, *image.shape[:2])), shifted]) if background else shifted
    second, best = np.sort(planes, axis=0)[-2:]
    firm = best - second > LABEL_MARGIN
    assert firm.mean() > 0.95
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(got.label_map[firm], expected[firm])
    assert got.confidence is not None
    np.testing.assert_allclose(got.confidence[firm], confidence(scores, of_rows).numpy()[firm], atol=LABEL_MARGIN)


def test_phrases_compete_and_classes_get_the_pixels() -> None:
    scores = torch.tensor([0.60, 0.52, 0.55, 0.59])[:, None, None]
    assert class_labels(scores, [0, 0, 1, -1]).item() == 1
    assert class_labels(scores[1:], [0, 1, -1]).item() == 0
    assert class_labels(scores, [0, 0, 1, 1], [0.58, 0.58, 0.50, 0.58]).item() == 2
    assert class_labels(scores, [0, 0, 1, 1], [0.7] * 4).item() == 0


def test_the_score_of_the_winner() -> None:
    scores = torch.tensor([0.60, 0.52, 0.55, 0.59])[:, None, None]
    for thresholds, expected in ((None, 0.60), ([0.58, 0.58, 0.50, 0.58], 0.55), ([0.7, 0.6, 0.7, 0.7], 0.6)):
        assert confidence(scores, thresholds).item() == pytest.approx(expected)
