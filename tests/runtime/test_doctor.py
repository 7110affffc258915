"""The doctor: what is installed, what runs, and the exact repair for what does not."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from t2d_runtime.backends.base import EngineIdentity
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.commands import installation
from t2d_runtime.commands.installation import examine


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Make packages look installed, or missing where None; names with _ for -."""
    real = importlib.metadata.version

    def version(package: str) -> str:
        found = versions.get(package.replace("-", "_"), "")
        if found is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return found or real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)


def report() -> str:
    return "\n".join(examine())


def test_it_says_what_each_backend_runs_and_what_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2D_CACHE_DIR", str(tmp_path / "here"))
    text = report()
    assert "onnxruntime          ready: ONNX Runtime" in text
    assert "runs fp32, fp16, int8, where the bundle holds it" in text
    assert "not bf16: ONNX Runtime's CPU provider has no bfloat16 kernels" in text
    assert f"cache: {tmp_path / 'here'}" in text
    assert "0.00 GiB of compiled models (T2D_CACHE_GIB: at most 4)" in text
    assert "cannot be written" not in text


def test_two_packages_of_one_module_are_found_with_the_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "overwrite each other" not in report()
    monkeypatch.setattr(installation, "conflict", lambda: iter(["they overwrite each other", "  the repair"]))
    assert "they overwrite each other\n  the repair\n" in report()


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("T2D_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert "which cannot be written; set T2D_CACHE_DIR" in report()


def test_reports_of_wrong_results_are_shown_with_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = EngineIdentity("TensorRT", "10.4.0", "a GPU, compute capability 8.9", "13000")
    monkeypatch.setattr(OnnxRuntimeBackend, "identity", identity)
    lines = [line for line in examine() if "reported: TensorRT 10.3 and 10.4" in line]
    assert len(lines) == 1
    assert "issues/4723" in lines[0]


def test_extras_are_ready_or_have_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tritonclient=None, grpcio="1.85.3", protobuf="6.33.6", av="18.1.0")
    text = report()
    assert "  video                ready: av 18.1.0\n" in text
    command = "in a checkout of t2d-runtime: pip install '.[triton]'"
    assert f"  triton               no: tritonclient not installed; {command}\n" in text
