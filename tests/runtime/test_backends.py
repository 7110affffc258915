"""ONNX Runtime as a backend: providers by name, precisions, the switch of int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from t2d_runtime import Segmenter
from t2d_runtime.backends import registry
from t2d_runtime.backends.registry import MODULES, installed_module, open_backend
from t2d_runtime.bundle import IMAGE_ENCODER, Bundle
from t2d_runtime.errors import BackendError, BackendUnavailableError, BundleError, OptionError
from t2d_runtime.parity import GATES
from t2d_runtime.selftest import run_selftest


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_stored_precision_passes_its_own_gates_and_not_those_of_float32(
    exported_bundle: Path, precision: str
) -> None:
    stages = run_selftest(Segmenter.open(exported_bundle, backend="onnxruntime", precision=precision), masks=False)
    assert all(stage.passed for stage in stages)
    tokens = next(stage for stage in stages if stage.stage == "patch_tokens")
    assert tokens.measure == "relative_frobenius"
    assert tokens.tolerance == GATES[precision].relative_frobenius
    assert tokens.relative_frobenius is not None
    assert tokens.relative_frobenius > 1e-5


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_only_int8_is_kept_from_being_fused_back_to_float32(
    exported_bundle: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    real = onnxruntime.InferenceSession

    def session(path: Path, options: Any, **keywords: Any) -> Any:
        given.append(options)
        return real(path, options, **keywords)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    backend = open_backend("onnxruntime")
    backend.load(Bundle.open(exported_bundle), IMAGE_ENCODER, precision=precision, num_threads=1)
    (options,) = given
    assert options.intra_op_num_threads == 1
    switch = "optimization.disable_specified_optimizers"
    if precision == "int8":
        assert options.get_session_config_entry(switch) == "MatMulAddFusion"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry(switch)


def test_the_optimised_int8_graph_multiplies_integers(exported_bundle: Path, tmp_path: Path) -> None:
    """What the switch is for: without it, where the batch is known, MatMul and bias become a float Gemm."""
    graph = Bundle.open(exported_bundle).graph(IMAGE_ENCODER, "int8")
    products = {}
    for switch in ("MatMulAddFusion", ""):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(tmp_path / f"optimised{switch}.onnx")
        if switch:
            options.add_session_config_entry("optimization.disable_specified_optimizers", switch)
        options.log_severity_level = 4
        options.add_free_dimension_override_by_name("batch", 1)
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        products[switch] = Path(options.optimized_model_filepath).read_bytes().count(b"MatMulIntegerToFloat")
    assert products["MatMulAddFusion"] > products[""] == 0


def test_bf16_on_the_cpu_provider_is_an_error_that_lists_what_runs(exported_bundle: Path) -> None:
    with pytest.raises(BackendError, match=r"no bfloat16 kernels; use backend 'openvino' .* fp32, fp16, int8"):
        Segmenter.open(exported_bundle, backend="onnxruntime", precision="bf16")
    assert open_backend("onnxruntime").precisions(Bundle.open(exported_bundle)) == ("fp32", "fp16", "int8")


def test_a_provider_that_is_not_active_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(BackendUnavailableError, match=r"needs CUDAExecutionProvider.*CPUExecutionProvider"):
        open_backend("onnxruntime-cuda")


def test_a_provider_that_does_not_start_is_an_error(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["OtherExecutionProvider"])
    with pytest.raises(BackendUnavailableError, match="CPUExecutionProvider did not start"):
        Segmenter.open(exported_bundle, backend="onnxruntime")


def test_unknown_names_are_refused_with_those_that_are_known(exported_bundle: Path) -> None:
    with pytest.raises(OptionError, match=r"precision is 'fp8', expected one of .*'fast'"):
        Segmenter.open(exported_bundle, precision="fp8")
    with pytest.raises(OptionError, match=r"unknown backend 'tflite', expected one of .*'tensorrt-rtx'"):
        Segmenter.open(exported_bundle, backend="tflite")


def test_a_precision_that_the_bundle_lacks_says_how_to_export_it(bundle_copy: Path) -> None:
    manifest = bundle_copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace("precisions/fp16/", "precisions/none/"))
    (bundle_copy / "precisions" / "fp16").rename(bundle_copy / "precisions" / "none")
    with pytest.raises(BundleError, match=r"no image_encoder.onnx in precision 'fp16'.*--precision fp32,fp16"):
        Segmenter.open(bundle_copy, backend="onnxruntime", precision="fp16")


def test_a_folder_of_type_stubs_is_no_installed_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "an_engine_of_stubs").mkdir()
    (tmp_path / "an_engine_of_stubs" / "__init__.pyi").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "MODULES", MODULES | {"stubs": ("an_engine_of_stubs",)})
    assert installed_module("stubs") is None
    assert installed_module("onnxruntime") == "onnxruntime"


def test_auto_without_any_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MODULES", dict.fromkeys(MODULES, ("no_such_module",)))
    with pytest.raises(BackendUnavailableError, match=r"t2d-runtime\[cpu\]"):
        open_backend("auto")


def test_a_graph_that_fails_while_it_runs_is_a_backend_error(exported_bundle: Path) -> None:
    engine = open_backend("onnxruntime").load(
        Bundle.open(exported_bundle), IMAGE_ENCODER, precision="fp32", num_threads=None
    )
    with pytest.raises(BackendError, match="ONNX Runtime failed"):
        engine.run({"pixel_values": np.zeros((1, 3, 5, 5), np.float32)})
