"""mIoU of a bundle on drawn scenes: through the command, with the protocol that its name says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.scenes.command import HELD_OUT_SEED, measure
from benchmarks.scenes.tuning import TUNING_SEED
from t2d_runtime import Segmenter
from training.drawing.concepts import INDEX
from training.drawing.scene_masks import IntersectionOverUnion
from training.drawing.scenes import draw_scene
from training.small.settings import TinySettings


@pytest.fixture(scope="module")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle)


def test_small_model_finds_what_is_named(segmenter: Segmenter) -> None:
    scores = measure(segmenter, "tiny", count=6, seed=41)
    assert scores["present"] > 0.6
    assert scores["background"] > 0.5
    assert scores["vocabulary"] > 0.5
    assert scores["per_class"]["present"].keys() < scores["per_class"]["vocabulary"].keys() | {"background"}


def test_present_protocol_by_hand(segmenter: Segmenter) -> None:
    judged = IntersectionOverUnion()
    for index in range(2):
        scene = draw_scene(41, index)
        result = segmenter.segment(scene.image, segmenter.encode_classes(scene.concepts))
        numbers = np.asarray([INDEX[name] for name in result.class_names], dtype=np.uint8)
        judged.add(numbers[result.label_map], scene.labels)
    scores = measure(segmenter, "tiny", count=2, seed=41, refine=False)
    assert scores["present"] == pytest.approx(judged.mean())


def test_held_out_scenes_are_of_a_series_of_their_own() -> None:
    settings = TinySettings()
    assert HELD_OUT_SEED not in {settings.pretrain_series, settings.projection_series, settings.validation_series}


def test_command(exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "scenes.json"
    assert main(["scenes", str(exported_bundle), "--count", "1", "--no-refine", "--json", str(output)]) == 0
    figures = json.loads(output.read_text())["figures"]
    assert figures["count"] == 1
    assert figures["refine"] is False
    assert f"the words of what is there {figures['present']:.3f}" in " ".join(capsys.readouterr().out.split())


def test_thresholds_are_found_on_scenes_of_their_own(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scenes.json"
    options = ["--count", "1", "--no-refine", "--tune", "2", "--json", str(output)]
    assert main(["scenes", str(exported_bundle), *options]) == 0
    figures = json.loads(output.read_text())["figures"]
    assert 0 < figures["tuned"] <= 1
    assert set(figures["thresholds"]) <= set(INDEX)
    assert f"a threshold for each word {figures['tuned']:.3f}" in " ".join(capsys.readouterr().out.split())
    settings = TinySettings()
    assert TUNING_SEED not in {settings.pretrain_series, settings.projection_series, HELD_OUT_SEED}
    assert main(["scenes", str(exported_bundle), "--seed", str(TUNING_SEED), "--tune", "2"]) == 2


def test_no_scenes(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenes", str(exported_bundle), "--count", "0"]) == 2
    assert "--count is 0, expected at least 1" in capsys.readouterr().err
