"""The README's table, generated from the committed result files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from t2d_runtime.errors import DataError
from t2d_runtime.whole_file import whole_file

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"

BEGIN = "<!-- figures: made by `python -m benchmarks report` from benchmarks/results/ -->"
END = "<!-- end of figures -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m benchmarks report`."""
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where the README is stale")


def run(args: argparse.Namespace) -> int:
    """Write the table into the README, or check it."""
    text = README.read_text(encoding="utf-8")
    updated = with_table(text, table())
    if args.check:
        print("README.md is up to date" if updated == text else "README.md is stale: python -m benchmarks report")
        return int(updated != text)
    with whole_file(README) as file:
        file.write(updated.encode())
    return 0


def with_table(text: str, lines: list[str]) -> str:
    """`text` with what is between the two markers replaced. Raises DataError where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"README.md lacks the lines {BEGIN!r} and {END!r}")
    return "\n".join([before + BEGIN, *lines, END + after])


def table() -> list[str]:
    """Lines of Markdown."""
    latency, scenes, parity = (_figures(name) for name in ("latency_vitb14", "scenes", "parity"))
    provenance = _read("latency_vitb14")["provenance"]
    lines = ["| | PyTorch | t2d-runtime | |", "|---|---:|---:|---:|"]
    for stage, row in latency["stages"].items():
        lines.append(f"| {stage} | {row['torch_ms']:.0f} ms | {row['runtime_ms']:.0f} ms | {row['faster']:.1f}x |")
    worst = max(
        stage["max_abs_diff"] / stage["tolerance"]
        for column in parity.values()
        for stage in column
        if stage["tolerance"] > 0
    )
    labels = min(stage["label_agreement"] for column in parity.values() for stage in column if stage["label_agreement"])
    lines += [
        f"| golden stages of the authors' code within tolerance | | {_passed(parity)} | "
        f"at most {worst:.0%} of it used, labels {labels:.3%} equal |",
        f"| small model, mIoU on {scenes['count']} held-out scenes | | {scenes['present']:.2f} | "
        f"{scenes['background']:.2f} with background |",
        "",
        f"{latency['backbone']} at {latency['input_size'][0]}, one window, {latency['classes']} words, "
        f"{latency['backend']}, {latency['precision']}, {latency['threads']} threads of {provenance['cpu']}, "
        f"against PyTorch {provenance['versions']['torch']} float32 eager, medians of {latency['rounds']} rounds "
        f"in turn, load average {provenance['load_average']}: of a busy machine only the ratios say something. "
        "Latency needs no meaningful weights: the ViT-B's are random.",
    ]
    return lines


def _passed(parity: dict[str, Any]) -> str:
    stages = [stage for column in parity.values() for stage in column]
    return f"{sum(stage['passed'] for stage in stages)} of {len(stages)}"


def _figures(name: str) -> Any:
    return _read(name)["figures"]


def _read(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise DataError(f"{path} is missing; see benchmarks/README.md for the command that makes it")
    return json.loads(path.read_text(encoding="utf-8"))
