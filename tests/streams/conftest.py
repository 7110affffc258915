"""Fixtures of the streams' tests: the small model opened once, and a clip."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2d_runtime import ClassEmbeddings, Segmenter
from tests.streams.clips import pictures, write_clip


@pytest.fixture(scope="session")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime", num_threads=1)


@pytest.fixture(scope="session")
def classes(segmenter: Segmenter) -> ClassEmbeddings:
    return segmenter.encode_classes(["sky", "grass", "person", "road"])


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of H.264 at 25 a second."""
    path: Path = write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", pictures(12))
    return path
