"""The origin of results: digests, engine, prompts and words, in Python and in JSON files."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.cli import main
from t2d_runtime.fused import FusedSegmenter

PICTURE: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_a_result_tells_model_engine_and_words(segmenter: Segmenter) -> None:
    classes = segmenter.encode_classes(
        {"plant": ["grass", "tree"], "sky": "sky"}, "simple", negatives=["road"], thresholds={"sky": 0.6}
    )
    origin = segmenter.segment(PICTURE, classes, background=True).origin
    assert origin is not None
    assert asdict(origin) == {
        "model_digest": segmenter.model_digest,
        "vocabulary_digest": segmenter.vocabulary_digest,
        "engine": segmenter.engine_description,
        "prompts": "simple",
        "phrases": {"plant": ("grass", "tree"), "sky": ("sky",)},
        "negatives": ("road",),
        "thresholds": {"sky": 0.6},
    }


@pytest.mark.parametrize(("prompts", "told"), [("subset", "subset"), (["a drawing of {}"], ("a drawing of {}",))])
def test_prompts_are_a_set_s_name_or_templates(segmenter: Segmenter, prompts: str, told: object) -> None:
    classes = segmenter.encode_classes(["sky", "grass"], prompts)
    origin = segmenter.segment(PICTURE, classes).origin
    assert origin is not None
    assert (origin.prompts, origin.phrases) == (told, None)
    of_templates = segmenter.encode_classes(["sky", "grass"], segmenter.manifest.prompt_sets["subset"])
    assert segmenter.segment(PICTURE, of_templates).origin == replace(origin, prompts="subset")


def test_prompts_of_a_vocabulary_are_not_known(segmenter: Segmenter, tmp_path: Path) -> None:
    classes = segmenter.encode_classes(["sky", "grass"])
    classes.save(tmp_path / "words.npz")
    other = segmenter.encode_classes(["road"], "simple")
    for given, told in (
        (ClassEmbeddings.load(tmp_path / "words.npz"), None),
        (classes.subset(["sky"]), "subset"),
        (classes.merge(segmenter.encode_classes(["road"])), "subset"),
        (classes.merge(other), None),
        (pickle.loads(pickle.dumps(other)), "simple"),
    ):
        origin = segmenter.segment(PICTURE, given).origin
        assert origin is not None
        assert origin.prompts == told


def test_an_encoding_keeps_its_engine(segmenter: Segmenter) -> None:
    encoding = replace(segmenter.encode_image(PICTURE), engine="another machine's")
    for given, told in ((encoding, "another machine's"), (replace(encoding, engine=None), None)):
        origin = segmenter.segment(pickle.loads(pickle.dumps(given)), ["sky"]).origin
        assert origin is not None
        assert origin.engine == told


def test_the_fused_graph_tells_it_too(exported_bundle: Path, segmenter: Segmenter) -> None:
    classes = segmenter.encode_classes(["sky", "grass"])
    fused = FusedSegmenter.open(exported_bundle, backend="onnxruntime")
    assert fused.segment(PICTURE, classes).origin == segmenter.segment(PICTURE, classes).origin


def test_json_has_the_origin(exported_bundle: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    words = ["--classes", "sky,grass", "--prompts", "simple", "--backend", "onnxruntime"]
    command = ["segment", str(exported_bundle), str(tmp_path / "a.png"), *words]
    assert main([*command, "--format", "json", "--output", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert list(content) == ["generator", "height", "width", "settings", "labels", "origin"]
    assert content["origin"] == {
        "model_digest": segmenter.model_digest,
        "vocabulary_digest": segmenter.vocabulary_digest,
        "engine": segmenter.engine_description,
        "prompts": "simple",
        "phrases": None,
        "negatives": [],
        "thresholds": {},
    }
