"""`python -m benchmarks shapes`: times and memory of shapes, here of a small map and picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.shapes import command


def test_times_and_memory_are_printed_and_saved(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SIZE", (150, 200))
    monkeypatch.setattr(command, "LARGE", (1000, 2000))
    path = tmp_path / "shapes.json"
    bundle = str(exported_bundle)
    assert main(["shapes", bundle, "--rounds", "1", "--backend", "onnxruntime", "--json", str(path)]) == 0
    figures = json.loads(path.read_text())["figures"]
    assert list(figures["times"]) == list(command.CELLS)
    few, many = (one["parts"] for one in figures["times"].values())
    assert command.LABELS < few < many
    memory = figures["memory_mib"]
    assert 0 < memory["segment"] <= memory["summary"] <= memory["overlay"]
    text = capsys.readouterr().out
    assert "200 x 150, 171 labels" in text
    assert "polygons(), all labels" in text
    assert "peak memory, 2000 x 1000" in text
