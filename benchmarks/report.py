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
    parity, scenes, engines = (_figures(name) for name in ("parity", "scenes", "engines"))
    limited = [stage for column in parity.values() for stage in column if stage["tolerance"] > 0]
    labels = [stage["label_agreement"] for column in parity.values() for stage in column if stage["label_agreement"]]
    worst = max(stage["max_abs_diff"] / stage["tolerance"] for stage in limited)
    lines = [
        "| | |",
        "|---|---|",
        f"| golden stages of the authors' code, reference and bundle | {_passed(parity)} within tolerance; "
        f"at most {worst:.0%} of it used; at least {min(labels):.3%} of the labels equal |",
        f"| small model, {scenes['count']} held-out drawn scenes | mIoU {scenes['present']:.2f} with the words of what "
        f"is there, {scenes['background']:.2f} with half of them and background, {scenes['vocabulary']:.2f} with all "
        "words |",
    ]
    return lines + [
        f"| small model in {row['precision']} on {row['backend']} | {row['size_bytes'] / 2**20:.0f} MiB, "
        f"{row['label_agreement']:.2%} of the labels equal to float32's on {engines['scenes']} scenes |"
        for row in engines["combinations"]
    ]


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
