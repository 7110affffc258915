"""The benchmark of training runs all contenders and reports them."""

from __future__ import annotations

import json

from benchmarks.__main__ import main
from benchmarks.training_speed import command as training_speed

SIZES = ["--images", "130", "--list-images", "128", "--batches", "2", "--rounds", "1", "--threads", "1"]


def test_all_contenders_are_measured(tmp_path, capsys):
    arguments = [*SIZES, "--workers", "1", "--folder", str(tmp_path), "--json", str(tmp_path / "speed.json")]
    assert main(["training_speed", *arguments]) == 0
    figures = json.loads((tmp_path / "speed.json").read_text())["figures"]
    for name in ("mapped", "list_1_workers", "products"):
        assert figures[f"{name}_step_ms"] > 0
    assert figures["mapped_over_products"] > 1, "a step is more than its products"
    assert 0 <= figures["mapped_wait_share"] < 1
    assert figures["mapped_anonymous_bytes"] > 0
    assert "times_faster_than_list_1_workers" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"], "the features are temporary"


def test_a_contender_that_dies_is_named(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(training_speed, "mapped", int)  # which takes no folder
    assert main(["training_speed", *SIZES, "--workers", "0", "--folder", str(tmp_path)]) == 2
    said = capfd.readouterr().err
    assert "mapped: its process ended in slice 0" in said
    assert "TypeError" in said
    assert not any(tmp_path.iterdir())


def test_impossible_sizes(tmp_path, capsys):
    assert main(["training_speed", "--images", "130", "--list-images", "200", "--folder", str(tmp_path)]) == 2
    assert "--list-images of 128 to --images" in capsys.readouterr().err
    assert main(["training_speed", "--workers", "-1", "--folder", str(tmp_path)]) == 2
    assert "--workers: expected 0 or more" in capsys.readouterr().err
