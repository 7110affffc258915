"""The benchmark of training runs all contenders and reports them; that of extraction reports both rates."""

from __future__ import annotations

import json

from benchmarks.__main__ import main
from benchmarks.training import steps
from tests.conftest import MODEL

COMMAND = ["training", "--rounds", "1", "--threads", "1"]
SIZES = ["--parts", "steps", "--images", "130", "--list-images", "128", "--batches", "2"]
TOWERS = ["--backbone", str(MODEL), "--backbone-weights", str(MODEL / "backbone.safetensors")]
TOWERS += ["--text-weights", str(MODEL / "text.safetensors")]


def test_both_parts_are_measured(tmp_path, capsys):
    options = [*SIZES, "--workers", "1", "--folder", str(tmp_path), "--json", str(tmp_path / "speed.json")]
    pictures = [*TOWERS, "--pictures", "4", "--batch-size", "2", "--loaders", "0"]
    assert main([*COMMAND, *options, *pictures, "--parts", "steps,extraction"]) == 0
    figures = json.loads((tmp_path / "speed.json").read_text())["figures"]
    contenders = figures["steps"]["contenders"]
    assert list(contenders) == [steps.MAPPED, "a list, 1 workers", steps.PRODUCTS]
    assert min(row["step_ms"] for row in contenders.values()) > 0
    assert contenders[steps.MAPPED]["over_ours"] == contenders[steps.PRODUCTS]["over_products"] == 1
    assert contenders[steps.MAPPED]["anonymous_bytes"] > 0
    assert 0 <= figures["steps"]["wait_share"] < 1
    assert figures["extraction"]["images_per_s"] > 0
    assert 0 < figures["extraction"]["share_of_bare_encoder"] < 1.5
    assert figures["extraction"]["input_size"] == [224, 224]
    printed = capsys.readouterr().out
    assert "a list, 1 workers" in printed
    assert "of the bare encoder's rate" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"], "the features are temporary"


def test_a_contender_that_dies_is_named(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(steps, "mapped", int)  # which takes no folder
    monkeypatch.setattr(steps, "released", int)
    assert main([*COMMAND, *SIZES, "--workers", "0", "--folder", str(tmp_path)]) == 2
    said = capfd.readouterr().err
    assert f"{steps.MAPPED}: its process ended in slice 0" in said
    assert "TypeError" in said
    assert not any(tmp_path.iterdir())


def test_impossible_sizes(tmp_path, capsys):
    for options, message in (
        (["--images", "130", "--list-images", "200"], "--list-images of 128 to --images"),
        (["--workers", "-1"], "--workers: expected 0 or more"),
        (["--pictures", "0"], "at least one picture"),
        (["--rounds", "0"], "at least one round"),
        (["--parts", "steps,naps"], "--parts of steps,extraction"),
    ):
        assert main(["training", *options, "--folder", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
