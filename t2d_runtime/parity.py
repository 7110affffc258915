"""How far an output is from the reference's: the measures and tolerances of every parity claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.manifest import StageParity

TOKEN_TOLERANCE = 2e-4
"""Patch tokens, CLS attention, text embeddings: share of the stage's largest magnitude.

Float32 sums of 12 to 40 blocks in another order differ by 1e-6 to 1e-5 of it; a wrong position embedding or
a lost register by more than 1e-2.
"""

SCORE_TOLERANCE = 1e-5
"""Similarity, scores and masks: absolute, on a scale of -1 to 1.

Float32 in another order stays below 3e-6; PAMR with the biased standard deviation is off by 8e-5 to 1.2e-4.
"""

LABEL_MARGIN = 2e-5
"""Labels must be equal where the two best scores differ by more than this: twice `SCORE_TOLERANCE`."""


@dataclass(frozen=True)
class PrecisionGates:
    """What a precision below float32 must keep of the reference; both absolute."""

    relative_frobenius: float
    """Largest norm of the difference of what an encoder gives, as a share of the reference's norm."""
    label_agreement: float
    """Least share of pixels with the reference's label."""

    @property
    def scores(self) -> float:
        """Largest difference of a cosine or a score: image and text each add their relative error to a cosine."""
        return 2 * self.relative_frobenius


GATES: Final[Mapping[str, PrecisionGates]] = MappingProxyType(
    {
        "fp16": PrecisionGates(relative_frobenius=0.01, label_agreement=0.995),
        "bf16": PrecisionGates(relative_frobenius=0.02, label_agreement=0.995),
        "int8": PrecisionGates(relative_frobenius=0.1, label_agreement=0.98),
    }
)
"""0.01 is NVIDIA's gate for DINOv3 in TensorRT; with random ViT-B weights bf16 measures 0.006, int8 0.03 to 0.05."""

PRECISIONS: Final = ("fp32", *GATES)
"""fp32 keeps the reference's masks: it is held to the tolerances above, stage by stage."""

WORST_SHARE = 0.01
"""`cosine_worst` is the cosine that this share of the vectors falls below."""


def compare_values(
    stage: str, expected: NDArray[Any], got: NDArray[Any], *, tolerance: float, relative: bool
) -> StageParity:
    """Compare arrays of one shape; the last axis holds the vectors of the cosines.

    `tolerance` is a share of the largest magnitude of `expected` where `relative`, else absolute.
    A shape that differs, or a value that is not finite, fails the stage.
    """
    expected64, got64 = expected.astype(np.float64), got.astype(np.float64)
    finite = expected.shape == got.shape and bool(np.isfinite(got64).all())
    if not finite:
        return StageParity(stage, False, float("inf"), tolerance, None, None, None, None, None, False)
    difference = np.abs(got64 - expected64)
    limit = tolerance * float(np.abs(expected64).max()) if relative else tolerance
    worst = float(difference.max())
    cosines = _cosines(expected64, got64)
    norm = float(np.linalg.norm(expected64))
    return StageParity(
        stage=stage,
        finite=True,
        max_abs_diff=worst,
        tolerance=limit,
        cosine_mean=float(cosines.mean()),
        cosine_worst=float(np.quantile(cosines, WORST_SHARE)),
        relative_frobenius=float(np.linalg.norm(difference)) / norm if norm else worst,
        label_agreement=None,
        share_below_margin=None,
        passed=worst <= limit,
    )


def compare_labels(
    stage: str,
    expected: NDArray[Any],
    got: NDArray[Any],
    margin: NDArray[np.floating[Any]],
    *,
    error: float = LABEL_MARGIN,
) -> StageParity:
    """Compare label maps; only pixels whose `margin` (best minus second score) exceeds `error` must agree.

    `share_below_margin` is the share of pixels that the comparison leaves open.
    """
    if expected.shape != got.shape:
        return StageParity(stage, False, float("inf"), 0.0, None, None, None, 0.0, None, False)
    differs = expected != got
    firm = margin > error
    return StageParity(
        stage=stage,
        finite=True,
        max_abs_diff=float((differs & firm).sum()),
        tolerance=0.0,
        cosine_mean=None,
        cosine_worst=None,
        relative_frobenius=None,
        label_agreement=1.0 - float(differs.mean()),
        share_below_margin=1.0 - float(firm.mean()),
        passed=not bool((differs & firm).any()),
    )


def gate_values(stage: StageParity, limit: float) -> StageParity:
    """The same comparison, judged by its relative Frobenius norm."""
    norm = stage.relative_frobenius
    passed = stage.finite and norm is not None and norm <= limit
    return replace(stage, measure="relative_frobenius", tolerance=limit, passed=passed)


def gate_labels(stage: StageParity, least: float) -> StageParity:
    """The same comparison, judged by the share of all labels that agree."""
    agreement = stage.label_agreement
    passed = stage.finite and agreement is not None and agreement >= least
    return replace(stage, measure="label_agreement", tolerance=least, passed=passed)


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = (np.linalg.norm(a, axis=1) == 0) & (np.linalg.norm(b, axis=1) == 0)
    cosines = (a * b).sum(axis=1) / np.where(norms == 0, 1.0, norms)
    return np.where(both_zero, 1.0, cosines)
