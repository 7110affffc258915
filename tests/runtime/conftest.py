"""Fixtures of the runtime's tests: the small model opened once, a cache of a test's own, the self-tests that ran."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.backends import registry
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.device.cpu import Cpu
from t2d_runtime.encoders import Encoders
from t2d_runtime.proof import selftest, speeds
from tests.runtime.cuda_on_cpu import build
from tests.runtime.pretended_speeds import Clock


@pytest.fixture(scope="session")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime")


@pytest.fixture(scope="session")
def classes(segmenter: Segmenter) -> ClassEmbeddings:
    return segmenter.encode_classes(["sky", "grass", "person", "road"])


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The kernels for the CPU; None on a machine without a C++ compiler, where launches are still checked.

    CXX names another compiler, of a process that is emulated.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    return None if compiler is None else build(tmp_path_factory.mktemp("kernels"), compiler)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(speeds, "in_turn", found.in_turn)
    return found


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch, exported_bundle: Path) -> None:
    """Engines are neither loaded nor tested for measuring: their times are pretended."""
    encoders = Encoders(Bundle.open(exported_bundle), OnnxRuntimeBackend("onnxruntime"), precision="int8")
    monkeypatch.setattr(speeds, "_proven", lambda subject, backend, precision: encoders)


@pytest.fixture(params=["onnxruntime", "openvino"])
def usual(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The rule's choice, on processors without and with AVX-512."""
    units = {"onnxruntime": ("avx2",), "openvino": ("avx2", "avx512f")}[request.param]
    monkeypatch.setattr(registry, "cpu", lambda: Cpu("a processor", units))
    return str(request.param)


def own_lines(stderr: bytes) -> list[str]:
    """Lines of standard error without those of engines that do not know the processor, as on some ARM64 machines."""
    engines = ("onnxruntime cpuid_info warning: ", "Can't open MIDR_EL1 sysfs entry")
    return [line for line in stderr.decode().splitlines() if not any(text in line for text in engines)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("T2D_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Precisions of the self-tests that were run."""
    done: list[str] = []
    real = selftest.run_selftest

    def run(encoders: Encoders, **options: Any) -> Any:
        done.append(encoders.precision)
        return real(encoders, **options)

    monkeypatch.setattr(selftest, "run_selftest", run)
    return done
