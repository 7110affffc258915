"""Bundles exported from the golden files' weights equal the authors' released code at every stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.parity.command import compare, subjects_of
from benchmarks.parity.golden import read_golden
from t2d_export.bundle import verify

GOLDEN = Path(__file__).parent.parent / "golden"


NAMES = ["vitb14_reg4_448_astronaut", "vits14_448_coffee", "vits14_reg4_518_coffee", "dinov3_vitb16_448_coffee"]


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_of_the_reference_and_of_the_bundle(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The export would try OpenVINO too, which compiles these large models to 600 MB each; other tests do.
    monkeypatch.setattr(verify, "installed_module", lambda backend: None)
    golden = read_golden(GOLDEN / f"{name}.npz")
    for subject in subjects_of(golden, tmp_path, ["onnxruntime"]):
        stages = list(compare(golden, subject))
        assert len(stages) >= 17
        assert [(subject.name, stage) for stage in stages if not stage.passed] == []
