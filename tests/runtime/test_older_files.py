"""Bundles and vocabularies that earlier versions wrote still open, and pass their self-test."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import OptionError
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.proof.selftest import run_selftest

FILES = Path(__file__).parents[1] / "golden" / "written_by_0.1.0"
IMAGE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def older_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(FILES / "bundle.tar.xz") as archive:
        if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(folder)
    return folder / "bundle"


def test_a_bundle_gives_its_reference_masks(older_bundle: Path) -> None:
    stages = run_selftest(Segmenter.open(older_bundle, backend="onnxruntime").encoders)
    assert len(stages) >= 12
    assert [stage.verdict for stage in stages if not stage.passed] == []


@pytest.mark.parametrize("name", ["words.npz", "words.safetensors"])
def test_vocabularies_serve_it(older_bundle: Path, name: str) -> None:
    words = ClassEmbeddings.load(FILES / name)
    assert words.names == ("sky", "sea")
    result = Segmenter.open(older_bundle, backend="onnxruntime").segment(IMAGE, words)
    assert set(np.unique(result.label_map)) <= {0, 1}
    fused = FusedSegmenter.open(older_bundle, backend="onnxruntime")
    assert fused.segment(IMAGE, words).label_map.shape == (70, 90)


def test_its_fused_graph_takes_one_threshold_and_says_so(older_bundle: Path) -> None:
    fused = FusedSegmenter.open(older_bundle, backend="onnxruntime")
    segmenter = Segmenter.open(older_bundle, backend="onnxruntime")
    words = {"sky": ["sky", "cloud"], "sea": "sea"}
    same = segmenter.encode_classes(words, negatives=["wall"], thresholds={"sky": 0.5, "sea": 0.5})
    got = fused.segment(IMAGE, same, background=True, threshold=0.5).label_map
    expected = segmenter.segment(IMAGE, same, background=True, threshold=0.5, window="whole").label_map
    assert (got == expected).mean() > 0.999
    apart = segmenter.encode_classes(words, thresholds={"sky": 0.6})
    with pytest.raises(OptionError, match="this bundle's fused graph has one threshold for all classes; export it"):
        fused.segment(IMAGE, apart, background=True)


def test_its_graphs_of_other_precisions_run(older_bundle: Path) -> None:
    """Whether so small a model of random weights passes int8's gates differs between processors."""
    backend = open_backend("onnxruntime")
    assert backend.precisions(Bundle.open(older_bundle)) == ("fp32", "int8")
    stages = run_selftest(Encoders(Bundle.open(older_bundle), backend, precision="int8"))
    assert all(stage.finite for stage in stages)
