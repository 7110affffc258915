"""The README's tables, generated from the committed result files."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.tables import readme_rows
from benchmarks.latency.tables import Comparison, Row
from benchmarks.report import processors
from benchmarks.report.quality import share_used
from benchmarks.report.results import ROOT, Result, Results
from benchmarks.report.speed import model_of
from t2d_runtime.bench.stages import WHOLE_REFINED
from t2d_runtime.errors import DataError

README = ROOT / "README.md"

BEGIN = "<!-- figures: made by `python -m benchmarks report` from benchmarks/results/ -->"
END = "<!-- end of figures -->"


def with_table(text: str, lines: list[str]) -> str:
    """`text` with the part between the two markers replaced. Raises DataError where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"README.md lacks the lines {BEGIN!r} and {END!r}")
    return "\n".join([before + BEGIN, *lines, END + after])


def table(results: Results) -> list[str]:
    """Both tables as lines of Markdown."""
    parity, scenes, engines = (results.read(name).figures for name in ("parity", "scenes", "engines"))
    stages = [stage for column in parity.values() for stage in column]
    labels = [stage["label_agreement"] for stage in stages if stage["label_agreement"]]
    worst = max(share for stage in stages if (share := share_used(stage)) is not None)
    return [
        "| | |",
        "|---|---|",
        f"| every stage of reference and bundle, against stored outputs of the authors' code (golden files) | "
        f"{_passed(stages)} within tolerance, the worst at {worst:.0%} of it; at least {min(labels):.3%} of the labels "
        "equal |",
        f"| small model, {scenes['count']} held-out drawn scenes | mIoU {scenes['present']:.2f} with the words of what "
        f"is there, {scenes['background']:.2f} with half of them and background, {scenes['vocabulary']:.2f} with all "
        "words |",
        *_engines(engines),
        *(line for result in results.named("latency") for line in _latency(result)),
        *(line for result in results.named("gpu") for line in readme_rows(result.figures)),
        "",
        *processors.table(results),
    ]


def _engines(figures: dict[str, Any]) -> list[str]:
    """Figures of the small model on every engine."""
    rows = figures["combinations"]
    sizes = [row["size_bytes"] / 2**20 for row in rows]
    return [
        f"| small model in {_listed(rows, 'precision')} on {_listed(rows, 'backend')} | {min(sizes):.0f} to "
        f"{max(sizes):.0f} MiB; at least {min(row['label_agreement'] for row in rows):.2%} of the labels equal to "
        f"float32's on {figures['scenes']} scenes |"
    ]


def _latency(result: Result) -> list[str]:
    """Figures of the encoder and a whole window against PyTorch, where they were measured."""
    parts = {
        name: Comparison.read(result.figures["parts"][name]).rows
        for name in ("encoders", "stages", "windows")
        if name in result.figures["parts"]
    }
    machine = f"{result.provenance['cpu']}, {result.figures['threads']} threads"
    where = f"one window of {model_of(result.figures)} on {machine}"
    compared = {
        "image encoder": [row for row in parts.get("encoders", ()) if not row.what.startswith("PyTorch")],
        "image to labels with PAMR": [row for row in parts.get("stages", ()) if row.what == WHOLE_REFINED],
    }
    for row in parts.get("windows", ()):
        compared.setdefault(f"{row.what}, PAMR", []).append(row)
    return [
        f"| {what}, against {theirs}: {where} | {', '.join(_speed(row) for row in rows if row.their_name == theirs)} |"
        for what, rows in compared.items()
        for theirs in dict.fromkeys(row.their_name for row in rows)
    ]


def _speed(row: Row) -> str:
    name = row.our_name or row.what
    return f"{name} {row.ratio or 0:.1f}x"


def _listed(rows: list[dict[str, Any]], key: str) -> str:
    return ", ".join(dict.fromkeys(row[key] for row in rows))


def _passed(stages: list[dict[str, Any]]) -> str:
    return f"{sum(stage['passed'] for stage in stages)} of {len(stages)}"
