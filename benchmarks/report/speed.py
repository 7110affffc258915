"""Blocks on time, memory and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.latency.tables import Sweep, Table, number
from benchmarks.blocks import Bar, Bars, Block, Lines
from benchmarks.blocks import Table as Cells
from benchmarks.report.results import Result
from benchmarks.training import extraction
from t2d_runtime.bench.stages import PLAIN_WAY, REFINED_WAY


def latency(result: Result, parts: Sequence[str]) -> list[Block]:
    """The named parts of a result of `latency`, those that were measured."""
    found = result.figures["parts"]
    blocks: list[Block] = [f"{model_of(result.figures)}, {result.figures['threads']} threads; {processor(result)}."]
    for name in parts:
        if name in found:
            blocks += _sweep(found[name]) if "series" in found[name] else _table(name, Table.read(found[name]))
    return blocks


def _sweep(content: dict[str, Any]) -> list[Block]:
    sweep = Sweep(**content)
    rounds = ", ".join(map(str, sweep.rounds))
    caption = f"Over {sweep.quantity}, {sweep.unit}; medians of {rounds} rounds"
    return [Lines(caption, tuple(map(str, sweep.values)), {name: tuple(t) for name, t in sweep.series.items()})]


def _table(name: str, table: Table) -> list[Block]:
    """A table and its note; before it a chart where the part has one."""
    headers, rows = table.cells()
    charts = {"encoders": _encoders, "stages": _stages, "starts": _starts}
    drawn = [charts[name](table)] if name in charts else []
    return [
        *(chart for chart in drawn if chart.bars),
        Cells((table.title, *headers[1:]), tuple(rows)),
        *filter(None, [table.note]),
    ]


def _encoders(table: Table) -> Bars:
    """Every contender, with the floor across its bar."""
    bars = tuple(
        Bar(row.what, {"": row.ours}, f"{number(row.ours)} ms" + f", {row.ratio or 1:.2f}x", row.floor)
        for row in table.rows
    )
    return Bars(f"Image encoder, ms; times faster than {table.rows[0].what}. Line: the floor", bars)


def _stages(table: Table) -> Bars:
    """Where the time of a window goes, on both sides."""
    found = {row.what: row for row in table.rows}
    bars = []
    for name, way in (("", PLAIN_WAY), (", PAMR", REFINED_WAY)):
        for side, key in (("PyTorch", "theirs"), ("runtime", "ours")):
            parts = {part.removesuffix(" after PAMR"): getattr(found[part], key) or 0.0 for part in way}
            bars.append(Bar(side + name, parts, f"{sum(parts.values()):.0f} ms"))
    return Bars("One window with background and cleaning, from file to labels, ms", tuple(bars))


def _starts(table: Table) -> Bars:
    """Steps of the runtime's starts."""
    rows = [row for row in table.rows if row.steps]
    bars = tuple(Bar(row.what, row.steps, f"{sum(row.steps.values()):.0f} ms") for row in rows)
    return Bars("A new process to its first mask by the runtime, PAMR included, ms", bars)


def training(result: Result) -> list[Block]:
    """An epoch of training; features of images."""
    blocks: list[Block] = []
    if "steps" in result.figures:
        figures = result.figures["steps"]
        bars = tuple(
            Bar(name, {"": row["epoch_s"]}, f"{row['epoch_s']:.0f} s, {row['over_ours']:.2f} times ours")
            for name, row in figures["contenders"].items()
        )
        caption = f"An epoch of COCO Captions on features, s, {figures['threads']} threads"
        blocks.append(Bars(f"{caption}; {processor(result)}", bars))
    if "extraction" in result.figures:
        blocks.append(f"{extraction.text(result.figures['extraction'])}; {processor(result)}.")
    return blocks


def devices(results: list[Result]) -> list[Block]:
    """What `t2d bench` saved, a column each."""
    figures = [result.figures for result in results]
    names = list(dict.fromkeys(name for one in figures for name in one["stages"]))
    rows = [
        ("engine", *(one["engine"] for one in figures)),
        ("precision", *(one["precision"] for one in figures)),
        *((name, *(number(one["stages"].get(name, {}).get("p50_ms")) for one in figures)) for name in names),
        ("later start", *(number(one["start"]["whole_ms"]) for one in figures)),
    ]
    return [Cells(("p50, ms", *(result.name for result in results)), tuple(rows))]


def model_of(figures: dict[str, Any]) -> str:
    """Backbone and where its weights are from."""
    return f"{figures['backbone']} ({figures['weights']} weights)"


def processor(result: Result) -> str:
    """Where the figures were measured."""
    facts = result.provenance
    return f"{facts['cpu']}, {facts['cores']} cores ({' '.join(facts['cpu_features'])})"
