"""Blocks on time, memory and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.blocks import Bar, Bars, Block, Table, number
from benchmarks.latency.tables import Comparison, Sweep
from benchmarks.report.results import Result
from benchmarks.training.command import PARTS
from t2d_runtime.bench.stages import PLAIN_WAY, REFINED_WAY


def latency(result: Result, parts: Sequence[str]) -> list[Block]:
    """The named parts of a result of `latency`, as far as they were measured."""
    found = result.figures["parts"]
    blocks: list[Block] = [f"{model_of(result.figures)}, {result.figures['threads']} threads; {processor(result)}."]
    for name in parts:
        if name in found:
            blocks += _blocks(name, found[name])
    return blocks


def _blocks(name: str, content: dict[str, Any]) -> list[Block]:
    """The output of the command, below a chart where the part has one."""
    if "series" in content:
        return Sweep(**content).blocks()
    found = Comparison.read(content)
    chart = CHARTS[name](found) if name in CHARTS else None
    return [chart, *found.blocks()] if chart and chart.bars else found.blocks()


def _encoders(table: Comparison) -> Bars:
    """A bar for every contender, with the limit marked across it."""
    bars = tuple(
        Bar(row.what, {"": row.ours}, f"{number(row.ours)} ms" + f", {row.ratio or 1:.2f}x", row.floor)
        for row in table.rows
    )
    return Bars(f"Image encoder, ms; times faster than {table.rows[0].what}. Line: the floor", bars)


def _stages(table: Comparison) -> Bars:
    """Stages of a window's time, on both sides."""
    found = {row.what: row for row in table.rows}
    bars = []
    for name, way in (("", PLAIN_WAY), (", PAMR", REFINED_WAY)):
        for side, key in (("PyTorch", "theirs"), ("runtime", "ours")):
            parts = {part.removesuffix(" after PAMR"): getattr(found[part], key) or 0.0 for part in way}
            bars.append(Bar(side + name, parts, f"{sum(parts.values()):.0f} ms"))
    return Bars("One window with background and cleaning, from file to labels, ms", tuple(bars))


def _starts(table: Comparison) -> Bars:
    """Steps of the runtime's starts."""
    rows = [row for row in table.rows if row.steps]
    bars = tuple(Bar(row.what, row.steps, f"{sum(row.steps.values()):.0f} ms") for row in rows)
    return Bars("A new process to its first mask by the runtime, PAMR included, ms", bars)


CHARTS = {"encoders": _encoders, "stages": _stages, "starts": _starts}
"""Parts of `latency` with a chart."""


def training(result: Result) -> list[Block]:
    """Speed of a training step and of feature extraction."""
    parts = [PARTS[name].blocks(figures) for name, figures in result.figures.items()]
    return [f"{processor(result)}.", *(block for blocks in parts for block in blocks)]


def devices(results: list[Result]) -> list[Block]:
    """Results of `t2d bench`, with a column for each file."""
    figures = [result.figures for result in results]
    names = list(dict.fromkeys(name for one in figures for name in one["stages"]))
    rows = [
        ("engine", *(one["engine"] for one in figures)),
        ("precision", *(one["precision"] for one in figures)),
        *((name, *(number(one["stages"].get(name, {}).get("p50_ms")) for one in figures)) for name in names),
        ("later start", *(number(one["start"]["whole_ms"]) for one in figures)),
    ]
    return [Table(("p50, ms", *(result.name for result in results)), tuple(rows))]


def model_of(figures: dict[str, Any]) -> str:
    """Backbone and the origin of its weights."""
    return f"{figures['backbone']} ({figures['weights']} weights)"


def processor(result: Result) -> str:
    """The processor on which the figures were measured."""
    facts = result.provenance
    return f"{facts['cpu']}, {facts['cores']} cores ({' '.join(facts['cpu_features'])})"
