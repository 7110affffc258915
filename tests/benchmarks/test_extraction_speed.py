"""The benchmark of feature extraction runs on a small model and reports both rates."""

from __future__ import annotations

import json

from benchmarks.__main__ import main
from tests.conftest import MODEL


def test_rate_and_share_are_saved(tmp_path, capsys):
    path = tmp_path / "extraction.json"
    sizes = ["--images", "4", "--batch-size", "2", "--rounds", "2", "--workers", "0"]
    towers = ["--backbone", str(MODEL), "--backbone-weights", str(MODEL / "backbone.safetensors")]
    towers += ["--text-weights", str(MODEL / "text.safetensors")]
    assert main(["extraction_speed", *towers, *sizes, "--json", str(path)]) == 0
    figures = json.loads(path.read_text())["figures"]
    assert figures["images_per_s"] > 0
    assert 0 < figures["share_of_bare_encoder"] < 1.5
    assert figures["input_size"] == [224, 224]
    assert "share_of_bare_encoder" in capsys.readouterr().out


def test_no_images_are_an_error(capsys):
    assert main(["extraction_speed", "--images", "0"]) == 2
    assert "at least one image" in capsys.readouterr().err
