"""Proof on the target: verdicts and their memory."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2d_runtime import Segmenter
from t2d_runtime.backends.base import EngineIdentity
from t2d_runtime.backends.known_wrong import reports_on
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeEngine
from t2d_runtime.bundle.files import IMAGE_ENCODER, SEGMENTER, SELFTEST, TEXT_ENCODER, Bundle
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BackendError, BundleError, SelfTestError
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.proof import selftest
from t2d_runtime.proof import verdicts as proof
from tests.runtime.engine_faults import disturb


def open_here(bundle: Path, **options: Any) -> Segmenter:
    return Segmenter.open(bundle, backend="onnxruntime", **options)


def test_an_engine_proves_itself_once(exported_bundle: Path, cache: Path, runs: list[str]) -> None:
    for _ in range(2):
        open_here(exported_bundle)
    assert runs == ["fp32"]
    open_here(exported_bundle, precision="int8")
    assert runs == ["fp32", "int8"]


@pytest.mark.parametrize("changed", ["version", "device", "driver"])
def test_another_version_device_or_driver_proves_itself_again(
    exported_bundle: Path, cache: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    open_here(exported_bundle)
    facts = {"engine": "ONNX Runtime", "version": "1", "device": "a", "driver": "b"} | {changed: "another"}
    monkeypatch.setattr(OnnxRuntimeBackend, "identity", EngineIdentity(**facts))
    open_here(exported_bundle)
    assert runs == ["fp32", "fp32"]


def test_a_verdict_is_for_one_bundle_graph_precision_and_runtime(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, bundle = OnnxRuntimeBackend("onnxruntime"), Bundle.open(exported_bundle)
    files = bundle.manifest.files
    keys = [proof.proof_key(bundle, backend, "fp32"), proof.proof_key(bundle, backend, "fp32", (SEGMENTER,))]
    other = replace(bundle.manifest, defaults=replace(bundle.manifest.defaults, threshold=0.1))
    keys.append(proof.proof_key(Bundle(bundle.folder, other), backend, "fp32"))
    for name in (IMAGE_ENCODER, TEXT_ENCODER, SELFTEST):
        changed = replace(bundle.manifest, files={**files, name: replace(files[name], sha256="0" * 64)})
        keys.append(proof.proof_key(Bundle(bundle.folder, changed), backend, "fp32"))
    with monkeypatch.context() as patch:
        patch.setattr(proof, "__version__", "another")
        keys.append(proof.proof_key(bundle, backend, "fp32"))
    with monkeypatch.context() as patch:  # as OpenVINO, which makes bf16 of the float32 graphs
        patch.setattr(OnnxRuntimeBackend, "digests", lambda self, bundle, precision, graphs: ("the same",))
        keys += [proof.proof_key(bundle, backend, "fp32"), proof.proof_key(bundle, backend, "bf16")]
    assert len(set(keys)) == len(keys)


def test_a_remembered_verdict_runs_no_engine(
    exported_bundle: Path, cache: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = open_here(exported_bundle)
    monkeypatch.delattr(OnnxRuntimeEngine, "run")
    monkeypatch.delattr(OnnxRuntimeBackend, "load")
    proof.require_proven(segmenter.encoders)
    assert runs == ["fp32"]


@pytest.mark.parametrize(
    ("precision", "output", "share"),
    [
        ("fp32", "patch_tokens", 1e-3),
        ("fp32", "text_embeds", 1e-3),
        ("fp16", "patch_tokens", 0.02),
        ("int8", "cls_attention", 0.2),
    ],
)
def test_an_engine_that_computes_wrongly_is_refused_and_tried_again(
    exported_bundle: Path,
    cache: Path,
    runs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    output: str,
    share: float,
) -> None:
    with monkeypatch.context() as patch:
        disturb(patch, output, share)
        with pytest.raises(SelfTestError, match=rf"{output}: .*tolerance.*choose another backend or precision"):
            open_here(exported_bundle, precision=precision)
    open_here(exported_bundle, precision=precision)
    assert runs == [precision] * 2


@pytest.mark.parametrize(
    ("precision", "output", "stage"),
    [("fp32", "scores", "upsampled"), ("fp32", "label_map", "upsampled labels"), ("int8", "label_map", "labels agree")],
)
def test_a_fused_graph_that_computes_wrongly_is_refused(
    exported_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, precision: str, output: str, stage: str
) -> None:
    with monkeypatch.context() as patch:
        disturb(patch, output, 0.1)
        with pytest.raises(SelfTestError, match=rf"{stage}.*choose another backend or precision"):
            FusedSegmenter.open(exported_bundle, backend="onnxruntime", precision=precision)
    FusedSegmenter.open(exported_bundle, backend="onnxruntime", precision=precision)
    assert len(list((cache / "verdicts").iterdir())) == 1


@pytest.mark.parametrize("kept", [0, 3, 100, -1000])
def test_a_selftest_that_was_cut_is_told(exported_bundle: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / SELFTEST).write_bytes((exported_bundle / SELFTEST).read_bytes()[:kept])
    with pytest.raises(BundleError, match=r"selftest\.npz is not a self-test of this version .*; export again"):
        selftest.SelfTestVectors.load(tmp_path / SELFTEST)


def test_a_damaged_selftest_is_told(exported_bundle: Path, tmp_path: Path) -> None:
    content = (exported_bundle / SELFTEST).read_bytes()
    for place in range(0, len(content), len(content) // 50):
        harmed = bytearray(content)
        harmed[place : place + 40] = bytes(byte ^ 0xFF for byte in harmed[place : place + 40])
        (tmp_path / SELFTEST).write_bytes(harmed)
        with contextlib.suppress(BundleError):  # some places hold nothing that is read
            selftest.SelfTestVectors.load(tmp_path / SELFTEST)


@pytest.mark.parametrize(
    ("function", "stage"),
    [
        ("to_pixel_values", "pixel_values"),
        ("cosine_similarity", "similarity"),
        ("window_scores", "scores"),
        ("upsample", "upsampled"),
        ("refine", "refined"),
        ("image_scores", "stitched"),
        ("labels_of", "label_map"),
    ],
)
def test_the_whole_selftest_names_the_stage_that_fails(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, function: str, stage: str
) -> None:
    right = getattr(selftest, function)
    monkeypatch.setattr(selftest, function, lambda *given, **options: np.roll(right(*given, **options), 1))
    assert next(parity.stage for parity in selftest.run_selftest(segmenter.encoders) if not parity.passed) == stage


def test_a_few_wrong_labels_of_the_fused_graph_are_refused_in_fp32_alone(
    exported_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a row of those that are compared, 0.45%. int8 may miss 2%, and misses some by itself: how many
    depends on the processor, whose byte products may saturate."""
    real = OnnxRuntimeEngine.run

    def run(self: OnnxRuntimeEngine, inputs: Any) -> Any:
        outputs = real(self, inputs)
        if "label_map" in outputs:
            outputs["label_map"][0, : outputs["label_map"].shape[1] // 4] = 99
        return outputs

    monkeypatch.setattr(OnnxRuntimeEngine, "run", run)
    with pytest.raises(SelfTestError, match="upsampled labels: largest difference"):
        FusedSegmenter.open(exported_bundle, backend="onnxruntime")
    FusedSegmenter.open(exported_bundle, backend="onnxruntime", precision="int8")


def test_words_cut_into_other_tokens_are_refused(
    exported_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Encoders.tokenize
    monkeypatch.setattr(Encoders, "tokenize", lambda self, texts: right(self, texts) + 1)
    with pytest.raises(SelfTestError, match="input_ids: largest difference 1, tolerance 0"):
        open_here(exported_bundle)


def test_values_that_are_not_finite_are_refused(
    exported_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, "patch_tokens", float("nan"))
    with pytest.raises(BackendError, match="patch_tokens holds values that are not finite"):
        open_here(exported_bundle, precision="int8")


def test_reports_of_wrong_versions_are_logged_and_named_in_the_refusal(
    exported_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jetpack = EngineIdentity("TensorRT", "10.3.0.30", "Orin, compute capability 8.7", "12060")
    monkeypatch.setattr(OnnxRuntimeBackend, "identity", jetpack)
    disturb(monkeypatch, "patch_tokens", 0.5)
    with caplog.at_level(logging.WARNING), pytest.raises(SelfTestError, match=r"JetPack 6\.2 brings 10\.3"):
        open_here(exported_bundle)
    assert "github.com/NVIDIA/TensorRT/issues/4723" in caplog.text


def test_reports_name_versions_devices_and_precisions() -> None:
    def reported(version: str, device: str, precision: str) -> int:
        return len(reports_on(EngineIdentity("TensorRT", version, device), precision))

    assert reported("10.3.0", "Orin, compute capability 8.7", "fp32") == 1
    assert reported("10.30.0", "Orin, compute capability 8.7", "fp32") == 0
    assert reported("10.9.0", "RTX 5090, compute capability 12.0", "fp16") == 1
    assert reported("10.9.0", "RTX 5090, compute capability 12.0", "fp32") == 0


@pytest.mark.parametrize("content", ["", '{"engine', "[]", "true"])
def test_a_damaged_memory_is_made_again(exported_bundle: Path, cache: Path, runs: list[str], content: str) -> None:
    open_here(exported_bundle)
    (verdict,) = (cache / "verdicts").iterdir()
    verdict.write_text(content)
    open_here(exported_bundle)
    assert runs == ["fp32", "fp32"]


def test_without_a_place_for_the_cache_it_works_and_warns(
    exported_bundle: Path,
    tmp_path: Path,
    runs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("T2D_CACHE_DIR", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        open_here(exported_bundle)
    assert runs == ["fp32", "fp32"]
    assert "T2D_CACHE_DIR" in caplog.text
