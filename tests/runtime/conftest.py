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
