"""Fixtures of the runtime's tests: the small model opened once, and photographs of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2d_runtime import ClassEmbeddings, Segmenter


@pytest.fixture(scope="session")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime")


@pytest.fixture(scope="session")
def classes(segmenter: Segmenter) -> ClassEmbeddings:
    return segmenter.encode_classes(["sky", "grass", "person", "road"])


def own_lines(stderr: bytes) -> list[str]:
    """Lines of standard error without those of engines that do not know the processor, as on some ARM64 machines."""
    engines = ("onnxruntime cpuid_info warning: ", "Can't open MIDR_EL1 sysfs entry")
    return [line for line in stderr.decode().splitlines() if not any(text in line for text in engines)]
