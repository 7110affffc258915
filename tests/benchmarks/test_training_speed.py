"""The benchmark of training runs both contenders and reports them."""

from __future__ import annotations

import json

from benchmarks.__main__ import main


def test_both_contenders_are_measured(tmp_path, capsys):
    sizes = ["--images", "130", "--list-images", "128", "--batches", "2", "--rounds", "1", "--threads", "1"]
    sizes += ["--workers", "0"]
    assert main(["training_speed", *sizes, "--folder", str(tmp_path), "--json", str(tmp_path / "speed.json")]) == 0
    figures = json.loads((tmp_path / "speed.json").read_text())["figures"]
    assert figures["mapped_step_ms"] > 0
    assert figures["list_0_workers_step_ms"] > 0
    assert 0 <= figures["mapped_wait_share"] < 1
    assert figures["mapped_anonymous_bytes"] > 0
    assert "times_faster_than_list_0_workers" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"], "the features are temporary"


def test_impossible_sizes(tmp_path, capsys):
    assert main(["training_speed", "--images", "130", "--list-images", "200", "--folder", str(tmp_path)]) == 2
    assert "--list-images of 128 to --images" in capsys.readouterr().err
