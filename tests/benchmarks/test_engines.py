"""The table of engines: what is built, what misses its gates, and what a build that fails leaves behind."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.engines import command as engines
from benchmarks.engines.command import Build, Combination, build, build_targets, misses
from benchmarks.engines.tables import blocks
from t2d_export.engines import to_engine
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.errors import ExportError
from t2d_runtime.proof.parity import PRECISIONS

FULL = Combination("fp32", "onnxruntime", "Engine 1", 1, 1.0, 1.0, 1.0, 1.0, (), 1.0, 0.8)


def test_encoders_and_the_fused_graph_are_built_in_every_precision(exported_bundle: Path) -> None:
    targets = list(build_targets(Bundle.open(exported_bundle)))
    assert len(targets) == len(set(targets))
    for fused, capabilities in ((False, set(engines.COMPUTE_CAPABILITIES)), (True, {engines.FUSED_CAPABILITY})):
        found = {(precision, capability) for precision, capability, kind in targets if kind == fused}
        assert found == {(precision, capability) for precision in PRECISIONS for capability in capabilities}


def test_a_build_that_fails_is_a_row_of_the_table(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, fused: bool) -> Path:
        raise ExportError(f"cannot build it{' fused' * fused}")

    monkeypatch.setattr(to_engine, "build_engine", refuse)
    row = build(exported_bundle, "int8", "8.9", fused=True)
    assert (row.fused, row.error, row.layers) == (True, "cannot build it fused", {})
    built = Build("fp16", "8.6", False, {"a.onnx": 7}, {"a.onnx": 2**20}, {"a.onnx": 12}, ("careful",), 1.5, None)
    figures = {"backbone": "b", "scenes": 0, "combinations": [], "tensorrt_rtx": [asdict(row), asdict(built)]}
    assert blocks(figures)[2:] == [
        "TensorRT for RTX, not run: 1 of 2 built (1 of the encoders, 1 of the fused graph).",
        "int8 for 8.9: cannot build it fused",
        "Attentions of the image and the text encoder in one kernel each: fp16 12.",
    ]


def test_a_build_counts_its_fused_attentions(bundle_copy: Path) -> None:
    row = build(bundle_copy, "fp16", "8.9", fused=False)
    assert row.error is None
    assert min(row.fused_attentions.values()) >= 3


def test_labels_and_miou_below_their_gates_are_misses() -> None:
    assert misses(FULL, FULL) == []
    row = replace(FULL, precision="int8", label_agreement=0.97, miou=0.78)
    assert misses(row, FULL) == ["97.000% of the scenes' labels agree", "mIoU 0.780, float32 0.800"]
    assert misses(replace(row, label_agreement=None, miou=None), FULL) == []


def test_the_command_measures_what_each_backend_runs(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.fused, "measure", lambda *arguments: [])
    for name, precision in (("onnxruntime", "fp32"), ("openvino", "int8")):
        monkeypatch.setattr(type(open_backend(name)), "precisions", lambda self, bundle, only=precision: (only,))
    options = ["--no-rtx", "--rounds", "1", "--scenes", "1", "--threads", "1", "--json", str(tmp_path / "engines.json")]
    assert main(["engines", str(exported_bundle), *options]) in (0, 1), "one scene may miss the gate of the labels"
    rows = json.loads((tmp_path / "engines.json").read_text())["figures"]["combinations"]
    assert [(row["precision"], row["backend"]) for row in rows] == [("fp32", "onnxruntime"), ("int8", "openvino")]
    assert rows[0]["label_agreement"] == 1
    assert min(row["load_ms"] for row in rows) > 0
    assert "1 held-out scenes" in capsys.readouterr().out
