"""Parity of a bundle with the PyTorch reference: its self-test vectors through the runtime, stage by stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from t2d_export.bundle_writer import write_manifest
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle import Bundle
from t2d_runtime.errors import VerificationError
from t2d_runtime.manifest import StageParity
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.selftest import run_selftest


def verify_bundle(folder: Path, *, backend: str = "onnxruntime") -> tuple[StageParity, ...]:
    """Run every stage in float32, store the report in the manifest, and return it, failed stages included."""
    segmenter = Segmenter(Bundle.open(folder), open_backend(backend), precision="fp32")
    stages = run_selftest(segmenter)
    write_manifest(folder, replace(segmenter.manifest, parity=stages))
    return stages


def require_verified(stages: tuple[StageParity, ...]) -> None:
    """Raise VerificationError, naming the first stage out of tolerance, where there is one."""
    failed = next((stage for stage in stages if not stage.passed), None)
    if failed is not None:
        raise VerificationError(
            f"verification failed, the exported graphs differ from PyTorch: {failed.verdict}; nothing was written"
        )
