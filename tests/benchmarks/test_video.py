"""The measures of video, in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main


def test_all_parts_are_measured(exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["video", str(exported_bundle), "--parts", "rate,smoothing,still,memory,live"]
    numbers = {"frames": 12, "rounds": 1, "clips": 1, "soak": 20, "minutes": 0.05, "camera-fps": 200, "threads": 1}
    sizes = [part for name, number in numbers.items() for part in (f"--{name}", str(number))]
    assert main([*command, *sizes, "--json", str(tmp_path / "video.json")]) == 0
    told = capsys.readouterr().out
    figures = json.loads((tmp_path / "video.json").read_text())["figures"]
    assert figures["rate"]["frames"] == 12
    assert figures["rate"]["frames_with_other_labels"] == 0
    assert set(figures["rate"]["stages_ms"]) == {"decode", "convert", "encode", "label", "draw and write"}
    rows = figures["smoothing"]["rows"]
    assert [row["smoothing"] for row in rows] == [0, 0.8, 0.9, 0.95, 0.97]
    assert rows[3]["flicker"] < rows[0]["flicker"]
    assert all(0 < row["moving_iou"] < 1 and 0 < row["mean_iou"] < 1 for row in rows)
    assert figures["still"]["reused"] == 6
    assert figures["still"]["least_agreement"] > 0.9
    assert figures["memory"]["frames"] == 20
    assert figures["live"]["counted"] is True
    assert figures["live"]["dropped"] > 0
    assert "frames whose labels are not those of segment" in told


def test_another_part_is_told(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["video", str(exported_bundle), "--parts", "speed"]) == 2
    assert "--parts is 'speed', expected some of rate, smoothing, still, memory, live" in capsys.readouterr().err
