"""`--json` of `t2d info`, `t2d doctor` and `t2d selftest`, and `t2d selftest --precision all`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2d_runtime import Segmenter, __version__
from t2d_runtime.backends.names import BACKENDS
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeEngine
from t2d_runtime.bundle.files import TEXT_ENCODER
from t2d_runtime.cli import main
from t2d_runtime.errors import BackendError
from t2d_runtime.proof import selftest


def printed(capsys: pytest.CaptureFixture[str], *command: str, status: int = 0) -> dict[str, Any]:
    """The JSON object that a command prints, and nothing else."""
    assert main([*command, "--json"]) == status
    content: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert content["generator"] == f"t2d-runtime {__version__}"
    assert content["command"] == command[0]
    return content


def test_info(exported_bundle: Path, segmenter: Segmenter, capsys: pytest.CaptureFixture[str]) -> None:
    content = printed(capsys, "info", str(exported_bundle))
    assert (content["bundle"], content["pulled_from"]) == (str(exported_bundle), None)
    assert content["digest"] == segmenter.manifest.digest
    assert content["model_digest"] == segmenter.model_digest
    assert content["vocabulary_digest"] == segmenter.vocabulary_digest
    assert content["model"]["input_size"] == [224, 224]
    assert content["verdicts"]["fp32"]["onnxruntime"]["status"] == "passed"
    assert content["parity_failed"] == content["left_off"] == []
    assert content["auto"]["backend"] in content["backends"]
    assert "onnxruntime" in content["backends"]


def test_info_names_what_was_left_off(bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle_copy / TEXT_ENCODER).unlink()
    assert printed(capsys, "info", str(bundle_copy))["left_off"] == [TEXT_ENCODER]


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    content = printed(capsys, "doctor")
    assert content["packages"]["numpy"] == np.__version__
    assert set(content["backends"]) == set(BACKENDS)
    here = content["backends"]["onnxruntime"]
    assert here["ready"]
    assert here["engine"].startswith("ONNX Runtime ")
    assert here["runs"] == ["fp32", "fp16", "int8"]
    assert "bfloat16" in here["refuses"]["bf16"]
    assert content["backends"]["onnxruntime-cuda"]["ready"] is False
    assert "CUDAExecutionProvider" in content["backends"]["onnxruntime-cuda"]["reason"]
    assert list(content["extras"]["video"]["packages"]) == ["av"]
    assert main(["doctor", "--json", "--measure", "bundle"]) == 2
    assert "--json has no effect with --measure" in capsys.readouterr().err


def test_selftest(exported_bundle: Path, segmenter: Segmenter, capsys: pytest.CaptureFixture[str]) -> None:
    content = printed(capsys, "selftest", str(exported_bundle), "--backend", "onnxruntime")
    assert content["passed"]
    (test,) = content["tests"]
    assert (test["backend"], test["precision"], test["device"]) == ("onnxruntime", "fp32", None)
    assert test["engine"] == segmenter.engine_description
    assert test["model_digest"] == segmenter.model_digest
    assert [stage["stage"] for stage in test["stages"]][-1] == "label_map"
    assert all(stage["passed"] for stage in test["stages"])


def test_a_figure_that_is_not_finite_is_null(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "refine", lambda crop, planes, pamr: np.full_like(planes, np.nan))
    content = printed(capsys, "selftest", str(exported_bundle), "--backend", "onnxruntime", status=1)
    assert not content["passed"]
    refined = next(stage for stage in content["tests"][0]["stages"] if stage["stage"] == "refined")
    assert (refined["finite"], refined["passed"], refined["max_abs_diff"]) == (False, False, None)


def test_all_precisions_are_one_table(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["selftest", str(exported_bundle), "--backend", "onnxruntime", "--precision", "all"]
    assert main(command) == 0
    told, errors = capsys.readouterr()
    assert told.splitlines()[1].split() == ["stage", "fp32", "fp16", "int8"]
    assert [line for line in told.splitlines() if line.startswith("label_map")]
    assert [line.split()[0] for line in told.splitlines() if line.endswith(": passed")] == ["fp32", "fp16", "int8"]
    assert errors.startswith("bf16 does not run on onnxruntime: ONNX Runtime's CPU provider has no bfloat16 kernels")
    assert [test["precision"] for test in printed(capsys, *command)["tests"]] == ["fp32", "fp16", "int8"]


def test_a_precision_that_fails_does_not_end_the_others(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = OnnxRuntimeEngine.run, []

    def run(self: OnnxRuntimeEngine, inputs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise BackendError("ONNX Runtime failed")
        return real(self, inputs)

    monkeypatch.setattr(OnnxRuntimeEngine, "run", run)
    command = ["selftest", str(exported_bundle), "--backend", "onnxruntime", "--precision", "all"]
    content = printed(capsys, *command, status=1)
    assert [test["precision"] for test in content["tests"]] == ["fp16", "int8"]
    assert not content["passed"]
    monkeypatch.setattr(OnnxRuntimeEngine, "run", lambda self, inputs: run(self, calls.clear()))
    assert main(command) == 2
    assert "ONNX Runtime failed" in capsys.readouterr().err


def test_the_table_marks_what_is_out_of_tolerance(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "labels_of", lambda scores, settings: np.zeros(scores.shape[1:], np.uint8))
    command = ["selftest", str(exported_bundle), "--backend", "onnxruntime", "--precision", "all"]
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("label_map")).count("! ") == 3
    assert sum(line.endswith("FAILED, first at label_map") for line in lines) == 3
