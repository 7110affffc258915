"""Latency of the fused graph: both sides of a row label the same picture with the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.engines import fused
from t2d_runtime.bundle.files import Bundle


def test_every_backend_is_timed_without_and_with_pamr(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "PICTURE", (60, 80))
    monkeypatch.setattr(fused, "WORDS", 2)
    rows = fused.measure(Bundle.open(exported_bundle), rounds=1, threads=None)
    assert [(row.backend, row.refine) for row in rows] == [
        ("onnxruntime", False),
        ("onnxruntime", True),
        ("openvino", False),
        ("openvino", True),
    ]
    assert min(row.label_agreement for row in rows) >= 0.999
    assert min(row.fused_ms for row in rows) > 0
