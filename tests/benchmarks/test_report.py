"""The README's table is that of the committed results; the page holds what the result files hold, all in one file."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.blocks import Bar, Bars, Lines, Section, Stack, Stacks, Table, Text
from benchmarks.report.curves import log_ticks
from benchmarks.report.html_page import to_html
from benchmarks.report.markdown_page import to_markdown
from benchmarks.report.parity_share import share_used
from benchmarks.report.readme import BEGIN, END, README, table, with_table
from benchmarks.report.results import RESULTS, Results
from benchmarks.report.sections import SOURCES, page
from t2d_runtime.bench.stages import PLAIN_WAY, REFINED_WAY
from t2d_runtime.errors import DataError

STAGE = {
    "torch_ms": 8.0,
    "runtime_ms": 2.0,
    "runtime_p95_ms": 3.0,
    "runtime_p99_ms": 4.0,
    "runtime_per_second": 500.0,
    "faster": 4.0,
    "faster_low": 3.5,
    "faster_high": 4.5,
}
START = {
    "whole_ms": 900.0,
    "import_ms": 100.0,
    "open_ms": 300.0,
    "words_ms": 50.0,
    "mask_ms": 400.0,
    "peak_bytes": 2**28,
}
LATENCY = {
    "backbone": "small",
    "weights": "random",
    "threads": 2,
    "rounds": 7,
    "classes": 8,
    "precision": "fp32",
    "stages": dict.fromkeys((*PLAIN_WAY, *REFINED_WAY, "image to labels, PAMR"), STAGE),
    "encoders": [
        {
            "name": name,
            "p50_ms": p50,
            "faster": {"median": 80 / p50, "low": 1.0, "high": 9.0},
            "floor_ms": 10.0,
            "share_of_rate": 10 / p50,
        }
        for name, p50 in (("PyTorch float32", 80.0), ("Engine bf16", 20.0))
    ],
    "roofline": {"encoder_flop": 2e11, "flop_per_second": {"fp32": 3e11}},
    "starts": {"first": START, "later": START},
    "sweeps": {
        "classes": {
            "quantity": "classes",
            "unit": "ms",
            "values": [1, 10],
            "series": {"PyTorch": [1.5, 20.0], "runtime": [0.5, None]},
        },
        "windows": {
            "quantity": "windows",
            "unit": "ms",
            "values": [1, 2],
            "rounds": [3, 1],
            "series": {"runtime": [4.0, 8.0]},
        },
    },
}
PIPELINE = {
    "backbone": "small",
    "weights": "random",
    "rows": {
        "image": [
            {"what": "encoder", "value": 4.0, "unit": "x", "bar": 3.5, "at_most": False, "note": "", "reached": True},
            {"what": "size", "value": 300.0, "unit": "MB", "bar": 250, "at_most": True, "note": "", "reached": False},
            {"what": "bf16", "value": None, "unit": "x", "bar": 3.5, "at_most": False, "note": "no", "reached": None},
        ]
    },
}
REFERENCE = {"miou_difference": 0.001, "miou_difference_interval": [-0.002, 0.004]}
ACCURACY = {
    "backbone": "small",
    "precision": "int8",
    "refine": True,
    "images": 12,
    "miou": 0.5,
    "pixel_accuracy": 0.75,
    "reference": REFERENCE,
}
FUSED = {"backend": "openvino", "refine": True, "runtime_ms": 50.0, "fused_ms": 90.0, "label_agreement": 0.999}
BUILDS = [{"error": None}, {"error": None, "fused": False}, {"error": "refused", "fused": True}]
"""The first version's files did not say which were of the fused graph."""

EXTRACTION = {"backbone": "b", "precision": "bf16", "threads": 2, "images_per_s": 3.5, "share_of_bare_encoder": 0.97}
DEVICE = {"engine": "Engine 1", "precision": "fp32", "stages": {"encode": {"p50_ms": 33.0}}, "start": START}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    facts = json.loads((RESULTS / "scenes.json").read_text())["provenance"]
    contents: dict[str, Any] = {
        "latency": LATENCY,
        "pipeline": PIPELINE,
        "accuracy_voc": ACCURACY,
        "training_speed": {
            "threads": 2,
            "products_epoch_s": 9.0,
            "mapped_epoch_s": 20.0,
            "list_0_workers_epoch_s": 90.0,
        },
        "extraction_speed": EXTRACTION,
        "bench_device": DEVICE,
    }
    for name, figures in contents.items():
        content = {"command": name, "provenance": facts, "figures": figures}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    for name in ("parity", "scenes", "engines"):
        content = json.loads((RESULTS / f"{name}.json").read_text())
        if name == "engines":
            content["figures"] |= {"fused": [FUSED], "tensorrt_rtx": BUILDS}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return Results(tmp_path)


class Structure(HTMLParser):
    """Whether every element is closed, and what is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attributes if name == "src" or (name, tag) == ("href", "link")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def text_of(sections: list[Section]) -> str:
    return to_markdown("title", sections, RESULTS)


def test_the_readme_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text, table(Results())) == text


def test_only_what_is_between_the_markers_changes() -> None:
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb", ["new"]) == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(DataError, match="lacks the lines"):
        with_table("no markers", [])


def test_the_readme_says_what_latency_found(results: Results) -> None:
    lines = "\n".join(table(results))
    assert "(random weights), one window" in lines
    assert "speed over PyTorch float32 | image encoder: Engine bf16 4.0x; image to labels with PAMR" in lines


def test_the_readme_counts_the_bars(results: Results) -> None:
    assert "| 1 of 2 are met on the machine at hand" in "\n".join(table(results))


def test_every_section_finds_its_figures(results: Results) -> None:
    sections = page(results)
    assert [section.title for section in sections][: len(SOURCES)] == [source.title for source in SOURCES]
    text = text_of(sections)
    assert "Not measured yet" not in text
    for expected in (
        "20.0 ms, 4.00x (1.00 to 9.00), 50% of the matrix rate",
        "| encode | 8.00 | 2.00 | 3.00 | 4.00 | 500.0 | 4.00x | 3.50 to 4.50 |",
        "1 of 2 bars",
        "| size | 300 MB | at most 250 | MISSED |",
        "| bf16 | – | at least 3.5 | not measured | no |",
        "| voc | small in int8, PAMR | 12 | 50.00 | 75.00 | +0.100 (-0.200 to +0.400) |",
        "| the matrix products alone | 9 s |",
        "| list 0 workers | 90 s |",
        "3.50 images a second, 97% of the bare encoder's rate",
        "| encode | 33.00 |",
        "| runtime | 0.5 |  |",
        "at most 256 MiB",
        "| openvino | yes | 90 | 50 | 99.900% |",
        "2 of 2 engines of the encoders, 0 of 1 engines of the fused graph",
        "\nOver classes\n",
        "\nOver windows; medians of 3, 1 rounds\n",
    ):
        assert expected in text


def test_a_section_without_figures_names_the_command(results: Results) -> None:
    (results.folder / "pipeline.json").unlink()
    content = json.loads((results.folder / "latency.json").read_text())
    content["figures"]["sweeps"] = {}
    (results.folder / "latency.json").write_text(json.dumps(content))
    text = text_of(page(results))
    assert text.count("Not measured yet") == 2
    assert "python -m benchmarks pipeline --bundle BUNDLE --json benchmarks/results/pipeline.json" in text
    assert "--sweep batch,threads,classes,windows --json" in text


def test_the_page_is_one_file(results: Results) -> None:
    html = to_html("a < b", page(results))
    structure = Structure()
    structure.feed(html)
    assert structure.open == []
    assert structure.fetched
    assert all(address.startswith("data:image/webp") for address in structure.fetched)
    assert not re.search(r"https?://", html)
    assert len(html) < 1_000_000
    assert "<title>a &lt; b</title>" in html
    assert "prefers-color-scheme: dark" in html


def test_bars_and_stacks_share_one_scale() -> None:
    bars = Bars("caption", (Bar("a", 10.0, "ten"), Bar("b", 2.5, "two", mark=5.0)))
    stacks = Stacks("caption", "ms", (Stack("x", (("one", 1.0), ("two", 3.0))), Stack("y", (("two", 2.0),))))
    html = to_html("", [Section("s", (bars, stacks, Text("<script>"), Table(("h",), (("1 | 2",),))))])
    assert re.findall(r'class="c0" style="width:([\d.]+)%"', html) == ["100.00", "25.00", "25.00"]
    assert re.findall(r'class="c1" style="width:([\d.]+)%"', html) == ["75.00", "50.00"]
    assert 'class="mark" style="left:50.00%"' in html
    assert "<script>" not in html
    assert "| 1 \\| 2 |" in to_markdown("", [Section("s", (Table(("h",), (("1 | 2",),)),))], RESULTS)


def test_curves_leave_out_what_was_not_measured() -> None:
    lines = Lines("times", "ms", ("1", "10", "100"), (("a", (1.0, 10.0, 100.0)), ("b", (None, 5.0, None))))
    html = to_html("", [Section("s", (lines,))])
    first, second = re.findall(r'<polyline class="k\d" points="([^"]*)"', html)
    heights = [float(point.split(",")[1]) for point in first.split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    assert len(second.split()) == 1
    assert html.count("<circle") == 4


@pytest.mark.parametrize(
    ("least", "greatest", "ticks"),
    [(640, 836, [500, 1000]), (3, 3, [2, 5]), (1, 1, [1, 2]), (0.5, 9000, [0.5, 1, 10, 100, 1000, 10000])],
)
def test_ticks_are_round_and_around_all_times(least: float, greatest: float, ticks: list[float]) -> None:
    assert log_ticks(least, greatest) == pytest.approx(ticks)


def test_the_share_of_a_tolerance_goes_by_the_stages_own_measure() -> None:
    assert share_used({"measure": "max_abs_diff", "max_abs_diff": 2e-6, "tolerance": 1e-5}) == pytest.approx(0.2)
    assert share_used({"measure": "label_agreement", "label_agreement": 0.99, "tolerance": 0.98}) == pytest.approx(0.5)
    assert share_used({"measure": "max_abs_diff", "max_abs_diff": 0.0, "tolerance": 0.0}) is None


def test_a_damaged_file_is_named(results: Results) -> None:
    (results.folder / "scenes.json").write_text('{"command": "scenes"}')
    with pytest.raises(DataError, match=r"scenes\.json is not a result file"):
        page(results)
    with pytest.raises(DataError, match=r"nothing\.json is missing"):
        results.read("nothing")
