"""The README's table by processor, from results of `latency` that are named after the processor's features."""

from __future__ import annotations

from benchmarks.blocks import number
from benchmarks.latency.processes import STARTS
from benchmarks.latency.tables import Comparison, Row
from benchmarks.latency.windows import FEW, PLAIN
from benchmarks.report.results import Result, Results
from t2d_runtime.errors import DataError

PREFIX = "processor_"

KINDS = {
    "amx": ("AMX", ("amx_bf16", "amx_int8")),
    "avx512_vnni_bf16": ("AVX-512 with VNNI and bf16", ("avx512f", "avx512_vnni", "avx512_bf16")),
    "avx2": ("AVX2 alone", ("avx2",)),
    "arm64": ("ARM64", ("asimd",)),
}
"""End of a file's name -> the row's name, and units of the processor. The first that has all its units is taken."""

NOTE = (
    "Each cell below is PyTorch / `auto` / `fast` (how many times less than PyTorch), medians in turn: `auto` is "
    "float32 on the engine that is taken unasked, `fast` the fastest precision that passes its self-test. Installed: "
    "`[cpu]` / `[cpu,openvino]`."
)


def kind_of(units: tuple[str, ...]) -> str | None:
    """The kind of a processor with these units of `t2d_runtime.device.cpu`; None for one that has no row."""
    return next((kind for kind, (_, needed) in KINDS.items() if set(needed) <= set(units)), None)


def table(results: Results) -> list[str]:
    """The table as lines of Markdown. Raises DataError for a file of another processor than its name says."""
    found = {result.name.removeprefix(PREFIX): result for result in results.named(PREFIX)}
    for kind, result in found.items():
        actual = kind_of(tuple(result.provenance["cpu_features"]))
        if kind != actual:
            raise DataError(
                f"{result.name}.json was measured on a processor of kind {actual}; name it {PREFIX}{actual}"
            )
    headers = (
        "processor",
        "image encoder, ms",
        f"{FEW} classes, background, cleaning, PAMR, ms",
        "first mask of a new process, ms",
        "memory, MiB",
        "installed, MiB",
    )
    lines = [f"| {' | '.join(headers)} |", "|" + "---|" * len(headers)]
    for kind, (name, _) in KINDS.items():
        cells = _cells(name, found[kind]) if kind in found else [name, "not measured yet", *[""] * (len(headers) - 2)]
        lines.append(f"| {' | '.join(cells)} |")
    models = dict.fromkeys(_model(result) for result in found.values())
    of = f" One window of {'; '.join(models)}." if models else ""
    return [f"{NOTE}{of}", "", *lines]


def _model(result: Result) -> str:
    figures = result.figures
    height, width = figures["input_size"]
    return f"{figures['backbone']} at {width} x {height} ({figures['weights']} weights), {figures['threads']} threads"


def _cells(name: str, result: Result) -> list[str]:
    parts = {name: Comparison.read(content).rows for name, content in result.figures["parts"].items()}
    auto = result.figures["runtime"]
    pytorch, *encoders = parts["encoders"]
    # With the same engine and precision for both, it was measured once.
    fast = next((row.what for row in encoders if row.what != auto), auto)
    windows = [row for row in parts["windows"] if row.what.startswith(f"{FEW} ") and row.their_name == PLAIN]
    starts = [row for row in parts["starts"] if row.what == STARTS["later"]]
    memory = [row for row in parts["memory"] if row.theirs is not None]
    return [
        f"{name}: {result.provenance['cpu']}; auto {auto}, fast {fast}",
        _sides(pytorch.ours, [next(row for row in encoders if row.what == engine) for engine in (auto, fast)]),
        *(_compared(rows, auto, fast) for rows in (windows, starts, memory)),
        " / ".join(f"{row.ours:.0f}" for row in parts["size"]),
    ]


def _compared(rows: list[Row], auto: str, fast: str) -> str:
    ours = [next(row for row in rows if row.our_name == engine) for engine in (auto, fast)]
    return _sides(ours[0].theirs, ours)


def _sides(theirs: float | None, ours: list[Row]) -> str:
    return " / ".join([number(theirs), *(f"{number(row.ours)} ({row.ratio or 0:.1f}x)" for row in ours)])
