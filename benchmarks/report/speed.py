"""Sections on time and memory."""

from __future__ import annotations

from typing import Any

from benchmarks.report.blocks import Bar, Bars, Block, Lines, Stack, Stacks, Table, Text
from benchmarks.report.results import Result
from t2d_runtime.bench.stages import PLAIN_WAY, REFINED_WAY

CONTENDERS = {"mapped": "memory-mapped features", "products": "the matrix products alone"}
"""Of training's speed; the others are lists read by so many workers, as released."""


def encoders(result: Result) -> list[Block]:
    """The image encoder against every baseline, and against the machine."""
    figures = result.figures
    rows = figures["encoders"]
    roofline = figures["roofline"]
    bars = tuple(Bar(row["name"], row["p50_ms"], _encoder_text(row), row["floor_ms"]) for row in rows)
    rates = ", ".join(f"{rate / 1e12:.2f} TFLOP/s in {name}" for name, rate in roofline["flop_per_second"].items())
    return [
        Text(f"{model_of(figures)}; one window, {figures['threads']} threads, medians of {figures['rounds']} rounds."),
        Bars(f"Image encoder, ms; times faster than {rows[0]['name']}, with 95% intervals. Line: the floor", bars),
        Text(
            f"The floor is the window's {roofline['encoder_flop'] / 1e9:.0f} GFLOP at the rate that nothing but matrix "
            f"products reach here: {rates}."
        ),
    ]


def _encoder_text(row: dict[str, Any]) -> str:
    ratio = row["faster"]
    reached = "" if row["share_of_rate"] is None else f", {row['share_of_rate']:.0%} of the matrix rate"
    return f"{row['p50_ms']:.1f} ms, {ratio['median']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f}){reached}"


def stages(result: Result) -> list[Block]:
    """Where the time of a window goes."""
    figures = result.figures["stages"]
    stacks = [
        Stack(f"{side}{name}", tuple((part.removesuffix(" after PAMR"), figures[part][key] or 0.0) for part in way))
        for name, way in (("", PLAIN_WAY), (", PAMR", REFINED_WAY))
        for side, key in (("PyTorch", "torch_ms"), ("runtime", "runtime_ms"))
    ]
    headers = ("stage", "PyTorch ms", "runtime ms", "p95", "p99", "a second", "faster", "95% interval")
    rows = tuple(
        (
            name,
            _number(row["torch_ms"]),
            *(f"{row[key]:.2f}" for key in ("runtime_ms", "runtime_p95_ms", "runtime_p99_ms")),
            f"{row['runtime_per_second']:.1f}",
            "" if row["faster"] is None else f"{row['faster']:.2f}x",
            "" if row["faster"] is None else f"{row['faster_low']:.2f} to {row['faster_high']:.2f}",
        )
        for name, row in figures.items()
    )
    return [
        Stacks("One window with background and cleaning, from file to labels", "ms", tuple(stacks)),
        Table(headers, rows),
        Text(
            f"{model_of(result.figures)}, {result.figures['classes']} classes, each of which wins somewhere, so that "
            "PAMR leaves none out. Decoding and resizing are timed in the runtime alone; upsampling without PAMR is in "
            "the labels."
        ),
    ]


def starts(result: Result) -> list[Block]:
    """New processes, and what they hold."""
    names = {"first": "first on a machine (empty cache)", "later": "later"}
    found = result.figures["starts"]
    parts = ("import_ms", "open_ms", "words_ms", "mask_ms")
    stacks = tuple(
        Stack(names[key], tuple((part.removesuffix("_ms"), start[part]) for part in parts))
        for key, start in found.items()
    )
    peaks = [start["peak_bytes"] for start in found.values() if start["peak_bytes"]]
    memory = f" Peak memory: at most {max(peaks) / 2**20:.0f} MiB." if peaks else ""
    return [
        Stacks("A new process to its first mask, PAMR included", "ms", stacks),
        Text(f"From outside, the interpreter's start included: {found['later']['whole_ms']:.0f} ms later on.{memory}"),
    ]


def sweeps(result: Result) -> list[Block]:
    """Times over batch, threads, classes and image sizes."""
    return [
        Lines(
            f"Over {sweep['quantity']}{_rounds(sweep)}",
            sweep["unit"],
            tuple(map(str, sweep["values"])),
            tuple((name, tuple(times)) for name, times in sweep["series"].items()),
        )
        for sweep in result.figures["sweeps"].values()
    ]


def _rounds(sweep: dict[str, Any]) -> str:
    """How many rounds each value's median is of; the first version's files do not say."""
    return f"; medians of {', '.join(map(str, sweep['rounds']))} rounds" if "rounds" in sweep else ""


def pipeline(result: Result) -> list[Block]:
    """The runtime's bars."""
    rows = _pipeline_rows(result)
    reached, judged = reached_bars(result)
    return [
        Text(f"{model_of(result.figures)}; {reached} of {judged} bars that could be measured here are reached."),
        Table(("what", "measured", "bar", "verdict", "note"), tuple(_pipeline_row(row) for row in rows)),
    ]


def reached_bars(result: Result) -> tuple[int, int]:
    """Of a pipeline's bars those that were reached, and those that could be measured."""
    judged = [row["reached"] for row in _pipeline_rows(result) if row["reached"] is not None]
    return sum(judged), len(judged)


def _pipeline_rows(result: Result) -> list[dict[str, Any]]:
    return [row for group in result.figures["rows"].values() for row in group]


def _pipeline_row(row: dict[str, Any]) -> tuple[str, ...]:
    bar = "" if row["bar"] is None else f"{'at most' if row['at_most'] else 'at least'} {row['bar']:g}"
    verdict = {True: "reached", False: "MISSED", None: "" if row["bar"] is None else "not measured"}[row["reached"]]
    value = "–" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
    return row["what"], value, bar, verdict, row["note"]


def training(result: Result) -> list[Block]:
    """An epoch of training."""
    figures = result.figures
    ending = "_epoch_s"
    epochs = {name.removesuffix(ending): value for name, value in figures.items() if name.endswith(ending)}
    bars = tuple(
        Bar(CONTENDERS.get(name, name.replace("_", " ")), value, f"{value:.0f} s") for name, value in epochs.items()
    )
    return [Bars(f"An epoch of COCO Captions on features, s, {figures['threads']} threads", bars)]


def extraction(result: Result) -> list[Block]:
    """Features of images, before training."""
    figures = result.figures
    return [
        Text(
            f"{figures['backbone']} in {figures['precision']}, {figures['threads']} threads: "
            f"{figures['images_per_s']:.2f} images a second, {figures['share_of_bare_encoder']:.0%} of the bare "
            "encoder's rate."
        )
    ]


def devices(results: list[Result]) -> list[Block]:
    """What `t2d bench` saved, a column each."""
    names = list(dict.fromkeys(name for result in results for name in result.figures["stages"]))
    rows = [("engine", *(result.figures["engine"] for result in results))]
    rows += [("precision", *(result.figures["precision"] for result in results))]
    rows += [
        (name, *(_number(result.figures["stages"].get(name, {}).get("p50_ms")) for result in results)) for name in names
    ]
    rows += [("later start", *(f"{result.figures['start']['whole_ms']:.0f}" for result in results))]
    return [Table(("p50, ms", *(result.name for result in results)), tuple(rows))]


def model_of(figures: dict[str, Any]) -> str:
    """Backbone and where its weights are from."""
    return f"{figures['backbone']} ({figures['weights']} weights)"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
