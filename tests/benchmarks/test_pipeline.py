"""The table of bars: what a row says, and that the rows which take no minutes run on the small model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.contenders.planted import planted_classes
from benchmarks.pipeline.command import ROWS, print_row
from benchmarks.pipeline.installed import disk_bytes
from benchmarks.pipeline.processes import run_child
from benchmarks.pipeline.rows import Row, faster
from benchmarks.timing import Timing
from t2d_runtime import Segmenter
from t2d_runtime.errors import BenchmarkError

MODEL = Path(__file__).parents[2] / "models" / "tiny"


@pytest.mark.parametrize(
    ("value", "bar", "at_most", "expected"),
    [(2.0, 1.5, False, True), (1.0, 1.5, False, False), (1.0, 1.5, True, True), (2.0, 1.5, True, False)],
)
def test_a_bar_is_reached_from_above_or_from_below(value: float, bar: float, at_most: bool, expected: bool) -> None:
    assert Row("what", value, "x", bar, at_most=at_most).reached is expected


def test_without_a_bar_or_a_figure_nothing_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert Row("what", 1.0, "ms").reached is None
    row = Row("bf16", None, "x", 3.5, note="no bfloat16 units")
    assert row.reached is None
    print_row(row)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed == "- at least 3.5 not measured bf16 [no bfloat16 units]"


def test_faster_is_the_median_of_the_rounds_ratios() -> None:
    timings = {"slow": Timing((10.0, 40.0, 90.0)), "fast": Timing((10.0, 20.0, 30.0))}
    row = faster("what", timings, "slow", "fast", bar=2)
    assert row.value == 2.0
    assert row.medians_ms == {"slow": 40.0, "fast": 20.0}
    assert row.rounds == 3


def test_every_planted_class_wins_somewhere(exported_bundle: Path) -> None:
    segmenter = Segmenter.open(exported_bundle, backend="onnxruntime")
    image = np.random.default_rng(0).integers(0, 256, (*segmenter.manifest.windows.crop_size, 3), np.uint8)
    encoding = segmenter.encode_image(image)
    classes = planted_classes(segmenter, encoding, 40)
    assert set(segmenter.segment(encoding, classes, background=True).label_map.ravel()) >= set(range(1, 41))
    more_than_patches = encoding.patch_tokens[..., 0].size + 5
    assert len(planted_classes(segmenter, encoding, more_than_patches).names) == more_than_patches


def test_rows_are_chosen_printed_and_saved(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pipeline.json"
    rows = ["image-fp32", "labels", "other-words", "vocabulary"]
    options = ["--bundle", str(exported_bundle), "--rounds", "1", "--threads", "1", "--rows", ",".join(rows)]
    status = main(["pipeline", "--backbone", str(MODEL), *options, "--json", str(output)])
    content = json.loads(output.read_text())
    found = content["figures"]["rows"]
    assert list(found) == rows
    (labels, agreeing) = found["labels"]
    assert labels["value"] == 0
    assert labels["reached"]
    assert agreeing["value"] > 0.9
    assert content["figures"]["threads"] == 1
    assert content["provenance"]["cpu_features"]
    printed = capsys.readouterr().out
    missed = [row["what"] for group in found.values() for row in group if row["reached"] is False]
    assert status == bool(missed)
    for what in missed:
        assert f"MISSED: {what}" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "image-fp32,speed"], "unknown rows ['speed'], expected some of"),
        (["--rounds", "0"], "--rounds is 0"),
    ],
)
def test_bad_options(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert main(["pipeline", *options]) == 2
    assert message in capsys.readouterr().err


def test_every_row_has_its_function() -> None:
    import importlib

    for place in ROWS.values():
        module, function = place.split(".")
        assert callable(getattr(importlib.import_module(f"benchmarks.pipeline.{module}"), function))


def test_a_process_of_its_own_says_what_it_took(exported_bundle: Path) -> None:
    arguments = {"bundle": str(exported_bundle), "precision": "fp32", "threads": 1}
    figures, ready_ms = run_child("words", {**arguments, "counts": [2, 4]})
    assert ready_ms is None
    assert figures["2"]["ms"] > 0
    assert min(figures["4"]["peak_bytes"], figures["process_peak_bytes"]) > 2**20
    with pytest.raises(BenchmarkError, match="words ended with status 1"):
        run_child("words", {**arguments, "counts": "none"})


def test_size_on_disk(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = disk_bytes(tmp_path)
    (tmp_path / "folder" / "file").write_bytes(bytes(100_000))
    assert 100_000 <= disk_bytes(tmp_path) - before < 150_000
