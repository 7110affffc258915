"""`benchmarks serve`, shortened: a server under load answers all who fit, refuses the rest, bears hostile requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main


def test_a_short_run(exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--clients 4 --seconds 1 --rounds 1 --round-seconds 1 --crowd 80 --crowd-seconds 2 --hostile 30"
    # Times depend on the machine, so the status may say that one is missed.
    status = main(
        [
            "serve",
            str(exported_bundle),
            *options.split(),
            "--backend",
            "onnxruntime",
            "--json",
            str(tmp_path / "serve.json"),
        ]
    )
    figures = json.loads((tmp_path / "serve.json").read_text())["figures"]
    assert set(figures["statuses"]) == {"200"}
    assert set(figures["crowd_statuses"]) == {"200", "429"}
    assert sum(figures["hostile_statuses"].values()) == 30
    assert all(400 <= int(number) < 500 for number in figures["hostile_statuses"])
    assert figures["tracebacks"] == 0
    told = capsys.readouterr().out
    assert status == int("MISSED" in told)
    assert "pictures a second, segment_batch" in told
