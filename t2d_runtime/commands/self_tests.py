"""The self-test of one precision, and the content of `t2d selftest --json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from t2d_runtime.bundle.manifest import StageParity
from t2d_runtime.opening import OpenOptions, open_parts
from t2d_runtime.proof.device_masks import feature_stages, mask_stages
from t2d_runtime.proof.selftest import run_selftest
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY


@dataclass(frozen=True)
class SelfTest:
    """The stages of a bundle in one precision on one engine, compared with the reference."""

    backend: str
    engine: str
    precision: str
    device: str | None
    """The GPU that computed the masks; None for this processor."""
    digest: str
    """The manifest's."""
    model_digest: str
    stages: tuple[StageParity, ...]

    @property
    def passed(self) -> bool:
        """True where every stage is within its tolerance."""
        return all(stage.passed for stage in self.stages)


def self_test(bundle: Path | str, **options: Unpack[OpenOptions]) -> SelfTest:
    """Run a bundle's self-test. Arguments and errors are those of `Segmenter.open`, but for SelfTestError.

    With the masks on a GPU their stages work on the reference's features; then come features left on the GPU.
    """
    encoders, masks = open_parts(bundle, **options)
    try:
        stages = run_selftest(encoders, masks=masks is None)
        if masks is not None:
            stages += (*mask_stages(encoders.bundle, masks), *feature_stages(encoders, masks))
    finally:
        encoders.close()
        if masks is not None:
            masks.close()
    return SelfTest(
        backend=encoders.backend.name,
        engine=str(encoders.backend.identity),
        precision=encoders.precision,
        device=None if masks is None else masks.identity[0],
        digest=encoders.manifest.digest,
        model_digest=encoders.bundle.model_digest,
        stages=stages,
    )


def content_of(bundle: Path | str, tests: Sequence[SelfTest], failed: int) -> dict[str, Any]:
    """Self-tests, and the number of engines that failed, as JSON takes them: a figure that is not finite is null."""
    return {
        GENERATOR_KEY: GENERATOR,
        "command": "selftest",
        "bundle": str(bundle),
        "passed": not failed and all(test.passed for test in tests),
        "engines_failed": failed,
        "tests": [
            {**asdict(test), "passed": test.passed, "stages": [_finite(asdict(stage)) for stage in test.stages]}
            for test in tests
        ],
    }


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
