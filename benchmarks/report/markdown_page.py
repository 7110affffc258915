"""The page in Markdown: every chart as the table of its figures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.report.blocks import Bars, Block, Lines, Picture, Section, Stacks, Table, Text


def to_markdown(title: str, sections: Sequence[Section], folder: Path) -> str:
    """The text of a file in `folder`, from which pictures are linked."""
    lines = [f"# {title}"]
    for section in sections:
        lines += ["", f"## {section.title}"]
        for block in section.blocks:
            lines += ["", *_lines(block, folder)]
    return "\n".join(lines) + "\n"


def _lines(block: Block, folder: Path) -> list[str]:
    match block:
        case Text(text):
            return [text]
        case Table(headers, rows):
            return _table(headers, rows)
        case Bars(caption, bars):
            return [caption, "", *_table(("", ""), ((bar.name, bar.text) for bar in bars))]
        case Stacks(caption, unit, stacks):
            names = list(dict.fromkeys(name for stack in stacks for name, _ in stack.parts))
            cells = ((stack.name, *(f"{dict(stack.parts).get(name, 0.0):.1f}" for name in names)) for stack in stacks)
            return [caption, "", *_table((unit, *names), cells)]
        case Lines(caption, unit, values, series):
            lines = ((name, *("" if time is None else f"{time:.1f}" for time in times)) for name, times in series)
            return [caption, "", *_table((unit, *values), lines)]
        case Picture(path, caption):
            return [f"![{caption}]({Path(os.path.relpath(path, folder)).as_posix()})", "", caption]


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|", *(f"| {row} |" for row in body)]
