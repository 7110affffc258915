"""The README's table, generated from the committed result files."""

from __future__ import annotations

from typing import Any

from benchmarks.report.parity_share import share_used
from benchmarks.report.results import ROOT, Results
from benchmarks.report.speed import model_of, reached_bars
from t2d_runtime.errors import DataError

README = ROOT / "README.md"

BEGIN = "<!-- figures: made by `python -m benchmarks report` from benchmarks/results/ -->"
END = "<!-- end of figures -->"


def with_table(text: str, lines: list[str]) -> str:
    """`text` with what is between the two markers replaced. Raises DataError where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"README.md lacks the lines {BEGIN!r} and {END!r}")
    return "\n".join([before + BEGIN, *lines, END + after])


def table(results: Results) -> list[str]:
    """Lines of Markdown."""
    parity, scenes, engines = (results.read(name).figures for name in ("parity", "scenes", "engines"))
    stages = [stage for column in parity.values() for stage in column]
    labels = [stage["label_agreement"] for stage in stages if stage["label_agreement"]]
    worst = max(share for stage in stages if (share := share_used(stage)) is not None)
    return [
        "| | |",
        "|---|---|",
        f"| golden stages of the authors' code, reference and bundle | {_passed(stages)} within tolerance; "
        f"at most {worst:.0%} of it used; at least {min(labels):.3%} of the labels equal |",
        f"| small model, {scenes['count']} held-out drawn scenes | mIoU {scenes['present']:.2f} with the words of what "
        f"is there, {scenes['background']:.2f} with half of them and background, {scenes['vocabulary']:.2f} with all "
        "words |",
        *_engines(engines),
        *_latency(results),
        *_bars(results),
    ]


def _engines(figures: dict[str, Any]) -> list[str]:
    """The small model on every engine."""
    rows = figures["combinations"]
    sizes = [row["size_bytes"] / 2**20 for row in rows]
    return [
        f"| small model in {_listed(rows, 'precision')} on {_listed(rows, 'backend')} | {min(sizes):.0f} to "
        f"{max(sizes):.0f} MiB; at least {min(row['label_agreement'] for row in rows):.2%} of the labels equal to "
        f"float32's on {figures['scenes']} scenes |"
    ]


def _latency(results: Results) -> list[str]:
    """The encoder and a whole window against PyTorch, where they were measured."""
    if not results.has("latency"):
        return []
    figures = results.read("latency").figures
    baseline, *others = figures["encoders"]
    engines = [row for row in others if not row["name"].startswith("PyTorch")]
    whole = figures["stages"]["image to labels, PAMR"]
    return [
        f"| {model_of(figures)}, one window, {figures['threads']} threads, speed over {baseline['name']} | image "
        f"encoder: {', '.join(_speed(row) for row in engines)}; image to labels with PAMR in {figures['precision']}: "
        f"{whole['faster']:.1f}x |"
    ]


def _speed(row: dict[str, Any]) -> str:
    return f"{row['name']} {row['faster']['median']:.1f}x"


def _bars(results: Results) -> list[str]:
    """How many of the demands on speed and memory are met, where they were measured."""
    if not results.has("pipeline"):
        return []
    result = results.read("pipeline")
    reached, judged = reached_bars(result)
    units = "" if any(unit.startswith("amx") for unit in result.provenance["cpu_features"]) else ", which has no AMX"
    return [
        f"| {model_of(result.figures)}, demands on speed and memory "
        f"([row by row](benchmarks/results/report.md#the-runtimes-bars)) | {reached} of {judged} are met on the "
        f"machine at hand{units} |"
    ]


def _listed(rows: list[dict[str, Any]], key: str) -> str:
    return ", ".join(dict.fromkeys(row[key] for row in rows))


def _passed(stages: list[dict[str, Any]]) -> str:
    return f"{sum(stage['passed'] for stage in stages)} of {len(stages)}"
