"""Fixtures of the tests that read files back: the small model opened once."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2d_runtime import Segmenter


@pytest.fixture(scope="session")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime")
