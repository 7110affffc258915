"""The README's table, generated from the committed result files."""

from __future__ import annotations

from typing import Any

from benchmarks.report.parity_share import share_used
from benchmarks.report.results import ROOT, Results
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
        *_latency(results),
        *(
            f"| small model in {row['precision']} on {row['backend']} | {row['size_bytes'] / 2**20:.0f} MiB, "
            f"{row['label_agreement']:.2%} of the labels equal to float32's on {engines['scenes']} scenes |"
            for row in engines["combinations"]
        ),
    ]


def _latency(results: Results) -> list[str]:
    """The encoder and a whole window against PyTorch, where they were measured."""
    if not results.has("latency"):
        return []
    figures = results.read("latency").figures
    fastest = min(figures["encoders"], key=lambda row: float(row["p50_ms"]))
    whole = figures["stages"]["image to labels, PAMR"]
    return [
        f"| {figures['backbone']}, one window, {figures['threads']} threads | image encoder "
        f"{fastest['faster']['median']:.1f}x as fast as {figures['encoders'][0]['name']} ({fastest['name']}); image to "
        f"labels with PAMR in {figures['precision']} {whole['faster']:.1f}x |"
    ]


def _passed(stages: list[dict[str, Any]]) -> str:
    return f"{sum(stage['passed'] for stage in stages)} of {len(stages)}"
