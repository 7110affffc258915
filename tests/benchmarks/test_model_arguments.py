"""The PyTorch model that a bundle is compared with has the bundle's settings."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.contenders.prompts import prompt_ids
from benchmarks.latency.processes import saved_model
from benchmarks.latency.setup import Setup
from benchmarks.model_arguments import add_model_arguments, export_settings
from t2d_export.export import ExportSettings, export_bundle
from t2d_export.model.reference import Reference, load_reference
from t2d_runtime import Segmenter

MODEL = str(Path(__file__).parents[2] / "models" / "tiny")
WORDS = ["sky", "red balloon"]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """A bundle with other settings than its model folder's: text embeddings are means over words."""
    folder = tmp_path_factory.mktemp("averaged") / "bundle"
    export_bundle(ExportSettings(MODEL, average_tokens=True, threshold=0.25), folder)
    return Segmenter.open(folder, backend="onnxruntime")


@pytest.fixture(scope="module")
def reference(segmenter: Segmenter) -> Reference:
    """The model as `latency` and `accuracy` load it for that bundle."""
    parser = argparse.ArgumentParser()
    add_model_arguments(parser, required=True)
    return export_settings(parser.parse_args(["--backbone", MODEL]), segmenter.manifest).load_reference()


def assert_same_words(reference: Reference, segmenter: Segmenter) -> None:
    with torch.inference_mode():
        embeds = reference.text_embeds(torch.from_numpy(prompt_ids(segmenter, WORDS)))
    np.testing.assert_allclose(embeds, segmenter.encode_classes(WORDS).vectors, atol=1e-5)


def test_the_model_reads_words_as_the_bundle_does(segmenter: Segmenter, reference: Reference) -> None:
    assert_same_words(reference, segmenter)
    assert reference.threshold == segmenter.manifest.defaults.threshold == 0.25


def test_a_process_of_its_own_loads_the_same_model(segmenter: Segmenter, reference: Reference) -> None:
    setup = Setup(segmenter.bundle.folder, reference, MODEL, [segmenter], [], Path(), np.empty(0), WORDS, 1, 1, 1)
    with saved_model(setup) as model:
        again = load_reference(**model)
    assert_same_words(again, segmenter)
    assert (again.text_tower.activation, again.threshold) == (reference.text_tower.activation, 0.25)
