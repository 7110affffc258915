"""The README's table is that of the committed results; the page holds what the result files hold, all in one file."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.blocks import Bar, Bars, Lines, Section, Table, log_ticks
from benchmarks.latency.tables import Comparison, Row, Sweep
from benchmarks.report.page import to_html, to_markdown
from benchmarks.report.quality import share_used
from benchmarks.report.readme import BEGIN, END, README, table, with_table
from benchmarks.report.results import RESULTS, Results
from benchmarks.report.sections import SOURCES, page
from t2d_runtime.bench.stages import PLAIN_WAY, REFINED_WAY
from t2d_runtime.errors import DataError

START = {"whole_ms": 900.0}
STEPS = {"import": 100.0, "open": 300.0, "words": 50.0, "mask": 400.0}
STAGES = tuple(
    Row(name, 2.0, 8.0, "runtime", "PyTorch", 4.0, 3.5, 4.5, 3.0)
    for name in dict.fromkeys((*PLAIN_WAY, *REFINED_WAY, "image to labels, PAMR"))
)
ENCODERS = (
    Row("PyTorch float32", 80.0, floor=10.0),
    Row("Engine bf16", 20.0, 80.0, "", "PyTorch float32", 4.0, 1.0, 9.0, floor=10.0, note="50% of the matrix rate"),
)
LATENCY = {
    "backbone": "small",
    "weights": "random",
    "threads": 2,
    "rounds": 7,
    "parts": {
        "stages": asdict(Comparison("one window", STAGES, note="PAMR refines them all.")),
        "encoders": asdict(Comparison("image encoder", ENCODERS)),
        "starts": asdict(Comparison("a start", (Row("later", 900.0, 3600.0, "Engine", "PyTorch", 4.0, steps=STEPS),))),
        "classes": asdict(Sweep("classes", "ms", (1, 10), (3, 1), {"PyTorch": (1.5, 20.0), "runtime": (0.5, None)})),
    },
}
WINDOWS = {
    **LATENCY,
    "parts": {
        "windows": asdict(
            Comparison(
                "one window",
                (
                    Row("20 classes", 50.0, 1500.0, "Engine fp32", "PyTorch as released", 30.0, note="all equal"),
                    Row("20 classes", 50.0, 150.0, "Engine fp32", "plain PyTorch", 3.0),
                ),
            )
        ),
        "memory": asdict(Comparison("peak memory", (Row("one window", 256.0, 1024.0, "E", "P", 4.0),), "MiB")),
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
BUILDS = [
    {"error": None},
    {"error": None, "fused": False},
    {"error": "refused", "fused": True, "precision": "fp16", "target": "8.9"},
]
"""The first version's files did not say which were of the fused graph."""

CONTENDER = {"step_ms": 9.0, "epoch_s": 90.0, "over_ours": 2.5, "over_products": 5.0, "anonymous_bytes": None}
TRAINING = {"steps": {"threads": 2, "contenders": {"a list, 0 workers": CONTENDER}, "wait_share": 0.01}}
EXTRACTION = {"backbone": "b", "precision": "bf16", "threads": 2, "images_per_s": 3.5, "share_of_bare_encoder": 0.97}
DEVICE = {"engine": "Engine 1", "precision": "fp32", "stages": {"encode": {"p50_ms": 33.0}}, "start": START}

FOUND = {
    "gpu": "NVIDIA Some, compute capability 9.0",
    "driver": "580",
    "packages": {},
    "absent": {"tensorrt": "install"},
}
LATENCIES = {"batch_ms": {"1": 1.25, "4": 3.0}, "windows_per_second": 1333.0, "memory_bytes": 2**30}
GPU = {
    "found": FOUND,
    "bundle": {"backbone": "b"},
    "rows": [
        {
            "name": "onnxruntime-cuda fp16: latency",
            "subject": "onnxruntime-cuda",
            "precision": "fp16",
            "what": "latency",
            "status": "done",
            "error": None,
            "seconds": 9.0,
            "figures": LATENCIES,
        }
    ],
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    facts = json.loads((RESULTS / "scenes.json").read_text())["provenance"]
    contents: dict[str, Any] = {
        "latency": LATENCY,
        "latency_windows": WINDOWS,
        "accuracy_voc": ACCURACY,
        "training_steps": TRAINING,
        "training_extraction": {"extraction": EXTRACTION},
        "bench_device": DEVICE,
        "gpu": GPU,
        "parameters": {"parameters": {"small": {"image_encoder": 2_000_000, "text_encoder": 3_000_000}}},
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
    return to_markdown(sections, RESULTS)


def test_the_readme_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text, table(Results())) == text


def test_only_what_is_between_the_markers_changes() -> None:
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb", ["new"]) == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(DataError, match="lacks the lines"):
        with_table("no markers", [])


def test_the_readme_says_this_against_that_on_which_processor(results: Results) -> None:
    lines = "\n".join(table(results))
    cpu = json.loads((RESULTS / "scenes.json").read_text())["provenance"]["cpu"]
    where = f"one window of small (random weights) on {cpu}, 2 threads"
    assert f"| image encoder, against PyTorch float32: {where} | Engine bf16 4.0x |" in lines
    assert f"| 20 classes, PAMR, against PyTorch as released: {where} | Engine fp32 30.0x |" in lines
    assert f"| 20 classes, PAMR, against plain PyTorch: {where} | Engine fp32 3.0x |" in lines
    assert "| image encoder, batch 4, ms | onnxruntime-cuda fp16 3.00 |\n| **not run** or failed | tensorrt |" in lines


PROCESSOR = {
    **LATENCY,
    "runtime": "Engine fp32",
    "input_size": [448, 448],
    "parts": {
        "encoders": asdict(
            Comparison(
                "image encoder",
                (
                    Row("PyTorch float32", 1800.0),
                    Row("Engine fp32", 1200.0, 1800.0, ratio=1.5),
                    Row("Engine int8", 450.0, 1800.0, ratio=4.0),
                ),
            )
        ),
        **{
            part: asdict(
                Comparison(
                    part,
                    tuple(
                        Row(what, ours, 3000.0 + other, f"Engine {name}", their, ratio)
                        for what, their, other in rows
                        for name, ours, ratio in (("fp32", 1500.0, 2.0), ("int8", 600.0, 5.0))
                    ),
                )
            )
            for part, rows in {
                "windows": [
                    ("20 classes, background, cleaning", "PyTorch as released", 9.0),
                    ("20 classes, background, cleaning", "plain PyTorch", 1.0),
                    ("171 classes", "plain PyTorch", 9.0),
                ],
                "starts": [("first on a machine, empty cache", "PyTorch", 9.0), ("later", "PyTorch", 2.0)],
                "memory": [("one window, 171 classes, PAMR", "PyTorch as released", 3.0)],
            }.items()
        },
        "size": asdict(
            Comparison("installed", (Row("t2d-runtime[cpu]", 223.4), Row("t2d-runtime[cpu,openvino]", 400.0)), "MiB")
        ),
    },
}
ZEN4 = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]


def on_a_processor(results: Results, kind: str, figures: dict[str, Any] = PROCESSOR) -> list[str]:
    facts = json.loads((RESULTS / "scenes.json").read_text())["provenance"] | {"cpu": "EPYC", "cpu_features": ZEN4}
    content = {"command": "latency", "provenance": facts, "figures": figures}
    (results.folder / f"processor_{kind}.json").write_text(json.dumps(content))
    return table(results)


def test_each_kind_of_processor_has_a_row(results: Results) -> None:
    assert "| AVX-512 with VNNI and bf16 | not measured yet |  |  |  |  |" in table(results)
    lines = on_a_processor(results, "avx512_vnni_bf16")
    assert (
        "| AVX-512 with VNNI and bf16: EPYC; auto Engine fp32, fast Engine int8 | 1800 / 1200 (1.5x) / 450 (4.0x) "
        "| 3001 / 1500 (2.0x) / 600 (5.0x) | 3002 / 1500 (2.0x) / 600 (5.0x) | 3003 / 1500 (2.0x) / 600 (5.0x) "
        "| 223 / 400 |"
    ) in lines
    assert "| AMX | not measured yet |  |  |  |  |" in lines
    headers = next(number for number, line in enumerate(lines) if line.startswith("| processor |"))
    said = lines[headers - 2]
    assert said.startswith("Each cell below is PyTorch / `auto` / `fast` (how many times less than PyTorch)")
    assert said.endswith("One window of small at 448 x 448 (random weights), 2 threads.")


def test_the_fastest_may_be_what_auto_takes(results: Results) -> None:
    alone = json.loads(json.dumps(PROCESSOR).replace('"Engine int8"', '"another"'))
    alone["parts"]["encoders"]["rows"].pop()
    (line,) = [line for line in on_a_processor(results, "avx512_vnni_bf16", alone) if "EPYC;" in line]
    assert "auto Engine fp32, fast Engine fp32 | 1800 / 1200 (1.5x) / 1200 (1.5x) |" in line


def test_a_result_of_another_processor_is_refused(results: Results) -> None:
    with pytest.raises(DataError, match=r"processor_amx\.json was measured on a processor of kind avx512_vnni_bf16"):
        on_a_processor(results, "amx")


def test_every_section_finds_its_figures(results: Results) -> None:
    sections = page(results)
    assert [section.title for section in sections][: len(SOURCES)] == [source.title for source in SOURCES]
    text = text_of(sections)
    assert "Not measured yet" not in text
    for expected in (
        "| Engine bf16 | 80.0 | 20.0 | 4.00x | 1.00 to 9.00 | 50% of the matrix rate |",
        "| Engine bf16 | 20.0 ms, 4.00x |",
        "| encode | 8.00 | 2.00 | 3.00 | 4.00x | 3.50 to 4.50 |",
        "\nPAMR refines them all.\n",
        "| later | 100.0 | 300.0 | 50.0 | 400.0 | 850 ms |",
        "| 20 classes | PyTorch as released | 1500 | 50.0 | 30.00x | all equal |",
        "| peak memory | P, MiB | E, MiB | times smaller |",
        "| one window | 1024 | 256 | 4.00x |",
        "| voc | small in int8, PAMR | 12 | 50.00 | 75.00 | +0.100 (-0.200 to +0.400) |",
        "| a list, 0 workers | 90 s |",
        "| a list, 0 workers | 9.00 | 2.50x | 5.00x |  |",
        "3.50 images a second, 97% of the bare encoder's rate",
        "| encode | 33.0 |",
        "| runtime | 0.50 |  |",
        "| small | 2.0 | 3.0 | 5.0 million |",
        "| openvino | yes | 90.0 | 50.0 | 99.900% |",
        "2 of 3 built (2 of the encoders, 1 of the fused graph)",
        "fp16 for 8.9: refused",
        "| onnxruntime-cuda fp16 | 1.25 | 3.00 |  |  | 1333 | 1024 |",
        "\nOver classes, ms; medians of 3, 1 rounds\n",
    ):
        assert expected in text


def test_a_section_without_figures_names_the_command(results: Results) -> None:
    (results.folder / "training_steps.json").unlink()
    (results.folder / "training_extraction.json").unlink()
    content = json.loads((results.folder / "latency.json").read_text())
    del content["figures"]["parts"]["classes"]
    (results.folder / "latency.json").write_text(json.dumps(content))
    text = text_of(page(results))
    assert text.count("Not measured yet") == 2
    assert "python -m benchmarks training --json benchmarks/results/training.json" in text
    assert "--parts batch,threads,classes,sizes --json" in text


def test_the_page_is_one_file(results: Results) -> None:
    html = to_html(page(results), "a < b")
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
    bars = Bars("caption", (Bar("a", {"": 10.0}, "ten"), Bar("b", {"": 2.5}, "two", mark=5.0)))
    stacks = Bars("caption", (Bar("x", {"one": 1.0, "two": 3.0}, "4"), Bar("y", {"two": 2.0}, "2")))
    html = to_html([Section("s", (bars, stacks, "<script>", Table(("h",), (("1 | 2",),))))])
    assert re.findall(r'class="c0" style="width:([\d.]+)%"', html) == ["100.00", "25.00", "25.00"]
    assert re.findall(r'class="c1" style="width:([\d.]+)%"', html) == ["75.00", "50.00"]
    assert 'class="mark" style="left:50.00%"' in html
    assert "<script>" not in html
    assert "| 1 \\| 2 |" in text_of([Section("s", (Table(("h",), (("1 | 2",),)),))])


def test_curves_leave_out_what_was_not_measured() -> None:
    lines = Lines("times", ("1", "10", "100"), {"a": (1.0, 10.0, 100.0), "b": (None, 5.0, None), "c": (7.0, 7.0, 7.0)})
    html = to_html([Section("s", (lines,))])
    first, second, third = re.findall(r'<polyline class="k\d" points="([^"]*)"', html)
    heights = [float(point.split(",")[1]) for point in first.split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    assert len(second.split()) == 1
    assert len({point.split(",")[0] for point in third.split()}) == 3, "equal times stand at their own values"
    assert html.count("<circle") == 7


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
