"""Measures and tolerances of every parity claim: the difference of an output from the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import StageParity

TOKEN_TOLERANCE = 2e-4
"""Tolerance for patch tokens, CLS attention and text embeddings: a share of the stage's largest magnitude.

Float32 sums of 12 to 40 blocks in another order differ by 1e-6 to 1e-5 of it. A wrong position embedding or a lost
register differs by more than 1e-2.
"""

SCORE_TOLERANCE = 1e-5
"""Tolerance for similarity, scores and masks: absolute, on a scale of -1 to 1.

Float32 in another order stays below 3e-6; PAMR with the biased standard deviation is off by 8e-5 to 1.2e-4.
"""

LABEL_MARGIN = 2e-5
"""Labels must be equal where the two best scores differ by more than this: twice `SCORE_TOLERANCE`."""


@dataclass(frozen=True)
class PrecisionGates:
    """Limits for a precision below float32."""

    relative_frobenius: float
    """Largest norm of the difference of an encoder's output, as a share of the reference's norm."""
    label_agreement: float
    """Least share of pixels with the reference's label."""

    @property
    def scores(self) -> float:
        """Largest difference of a cosine or a score. Image and text each add their relative error to a cosine."""
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
"""Precisions. fp32 keeps the reference's masks: it must meet the tolerances above, stage by stage."""

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


@dataclass(frozen=True)
class Judge:
    """Compares outputs with the reference's: float32 by the tolerances above, a lower precision by its gates."""

    gates: PrecisionGates | None

    @classmethod
    def of(cls, precision: str) -> Judge:
        """The judge of a precision, with its gates; float32 has none."""
        return cls(GATES.get(precision))

    def features(self, stage: str, expected: NDArray[Any], got: NDArray[Any]) -> StageParity:
        """Compare an encoder's outputs; below float32 by the relative Frobenius norm."""
        compared = compare_values(stage, expected, got, tolerance=TOKEN_TOLERANCE, relative=True)
        if self.gates is None:
            return compared
        norm, limit = compared.relative_frobenius, self.gates.relative_frobenius
        passed = norm is not None and norm <= limit
        return replace(compared, measure="relative_frobenius", tolerance=limit, passed=passed)

    def scores(
        self, stage: str, expected: NDArray[Any], got: NDArray[Any], tolerance: float = SCORE_TOLERANCE
    ) -> StageParity:
        """Compare cosines and scores; `tolerance` applies to float32."""
        limit = self.gates.scores if self.gates else tolerance
        return compare_values(stage, expected, got, tolerance=limit, relative=False)

    def labels(
        self, stage: str, expected: NDArray[Any], got: NDArray[Any], margin: NDArray[np.floating[Any]]
    ) -> StageParity:
        """Compare label maps; below float32 by the share of all pixels, whatever their margin."""
        compared = compare_labels(stage, expected, got, margin)
        return gate_labels(compared, self.gates.label_agreement) if self.gates else compared


def gate_labels(stage: StageParity, least: float) -> StageParity:
    """The same comparison, judged by the share of all labels that agree."""
    agreement = stage.label_agreement
    passed = stage.finite and agreement is not None and agreement >= least
    return replace(stage, measure="label_agreement", tolerance=least, passed=passed)


def with_background(planes: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Scores (N,H,W) with a constant plane at the threshold as label 0: (N+1,H,W)."""
    return np.concatenate([np.full((1, *planes.shape[1:]), threshold, np.float32), planes])


def margin_of(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Best score less the second best (H,W) of two or more planes (n,H,W)."""
    second, best = np.partition(planes, -2, axis=0)[-2:]
    margin: NDArray[np.float32] = best - second
    return margin


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = (np.linalg.norm(a, axis=1) == 0) & (np.linalg.norm(b, axis=1) == 0)
    cosines = (a * b).sum(axis=1) / np.where(norms == 0, 1.0, norms)
    return np.where(both_zero, 1.0, cosines)
