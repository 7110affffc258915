"""Tables of the figures of a GPU: for the terminal and the report, and rows for the README."""

from __future__ import annotations

from typing import Any

from benchmarks.blocks import Block, Table, number
from benchmarks.gpu.stages import BATCHES, GRAPH, IMAGE, LATENCY, MASKS

MIB = 2**20
LONG = 160
"""Characters of an error in the table; the row's own line and the file have all."""


def blocks(figures: dict[str, Any]) -> list[Block]:
    """Lines about the machine, then every row with its outcome and its figures."""
    found, rows = figures["found"], figures["rows"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items()) or "none"
    lines: list[Block] = [
        f"GPU: {found['gpu']}, driver {found['driver']}" if found["gpu"] else f"No GPU: {found['missing']}",
        f"packages: {packages}",
        *found.get("warnings", ()),
        *(f"not here: {name}: {needs}" for name, needs in found["absent"].items()),
    ]
    if not found["gpu"]:
        return [*lines, "Nothing was run."]
    loops = next((row["figures"]["host_loops"] for row in rows if "host_loops" in row["figures"]), None)
    if rows:
        lines.append(_verdicts(rows))
    if timed := [row for row in rows if row["what"] in (LATENCY, GRAPH) and row["figures"]]:
        lines += ["The image encoder, its inputs and outputs on the GPU, by CUDA events:", _latencies(timed)]
    if whole := [row for row in rows if row["what"] in (IMAGE, MASKS, "fused graph") and row["figures"]]:
        on_host = f" PAMR on the host: {loops}." if loops else ""
        lines += [f"A picture of 640 x 480 to labels, with background, cleaning and PAMR.{on_host}", _images(whole)]
    return lines


def line_of(row: dict[str, Any]) -> str:
    """One row as a line, for whoever waits for the next one."""
    figures = row["figures"]
    times = [f"batch {batch} {number(ms)} ms" for batch, ms in figures.get("batch_ms", {}).items()]
    single = {key: value for key, value in figures.items() if key.endswith(("_ms", "_s")) and key != "batch_ms"}
    times += [f"{key} {number(value)}" for key, value in single.items()]
    told = "; ".join(filter(None, (_told(row), ", ".join(times))))
    return f"{row['name']}: {row['status']} after {row['seconds']:.0f} s{': ' * bool(told)}{told}"


def _verdicts(rows: list[dict[str, Any]]) -> Table:
    cells = [(row["name"], row["status"], f"{row['seconds']:.0f}", _told(row)[:LONG]) for row in rows]
    return Table(("stage", "", "s", "what came of it"), cells)


def _told(row: dict[str, Any]) -> str:
    if row["error"]:
        return str(row["error"])
    stages = row["figures"].get("stages")
    if not stages:
        return ""
    worst = max(_share(stage) for stage in stages)
    return f"{sum(stage['passed'] for stage in stages)} of {len(stages)} within tolerance, at most {worst:.0%} of it"


def _share(stage: dict[str, Any]) -> float:
    """Share of a stage's tolerance that is used; 0 for labels, which are equal or not."""
    if stage["measure"] == "label_agreement" or not stage["tolerance"]:
        return 0.0
    return float(stage[stage["measure"]] / stage["tolerance"])


def _latencies(rows: list[dict[str, Any]]) -> Table:
    headers = ("", *(f"{batch}, ms" for batch in BATCHES), "windows/s", "MiB")
    cells = []
    for row in rows:
        figures = row["figures"]
        times = figures.get("batch_ms", {})
        name = f"{row['subject']} {row['precision']}{', CUDA graph' * (row['what'] == GRAPH)}"
        memory = figures.get("memory_bytes")
        rates = (number(figures.get("windows_per_second")), "" if memory is None else f"{memory / MIB:.0f}")
        cells.append((name, *(number(times.get(str(batch))) for batch in BATCHES), *rates))
    return Table(headers, cells)


def _images(rows: list[dict[str, Any]]) -> Table:
    cells = []
    for row in rows:
        figures = row["figures"]
        host = figures.get("host_ms", figures.get("host_with_pamr_ms"))
        device = figures.get("device_ms", figures.get("device_with_pamr_ms"))
        equal = figures.get("labels_equal")
        name = f"{row['subject']} {row['precision']}{': ' + row['what'] if row['what'] != IMAGE else ''}"
        encode = number(figures.get("encode_ms"))
        cells.append((name, encode, number(host), number(device), "" if equal is None else f"{equal:.3%}"))
    return Table(("", "encoding ms", "masks on the host ms", "masks on the GPU ms", "labels equal"), cells)


def readme_rows(figures: dict[str, Any]) -> list[str]:
    """Rows of a Markdown table: the fastest that passed its self-test against PyTorch, and what was not run."""
    rows, gpu = figures["rows"], figures["found"]["gpu"]
    if not gpu:
        return ["| on an NVIDIA GPU | **not run**: no GPU was at hand |"]
    backbone = (figures["bundle"] or {}).get("backbone", "no bundle")
    lines = [f"| {backbone} on {gpu} | {_passed(rows)} |"]
    for batch in BATCHES:
        times = {
            f"{row['subject']} {row['precision']}{', CUDA graph' * (row['what'] == GRAPH)}": ms
            for row in rows
            if row["what"] in (LATENCY, GRAPH) and (ms := row["figures"].get("batch_ms", {}).get(str(batch)))
        }
        if times:
            told = ", ".join(f"{name} {number(ms)}" for name, ms in sorted(times.items(), key=lambda pair: pair[1]))
            lines.append(f"| image encoder, batch {batch}, ms | {told} |")
    missing = [row["name"] for row in rows if row["status"] != "done"] + sorted(figures["found"]["absent"])
    return [*lines, f"| **not run** or failed | {', '.join(missing)} |"] if missing else lines


def _passed(rows: list[dict[str, Any]]) -> str:
    judged = [row for row in rows if row["figures"].get("stages")]
    passed = [f"{row['subject']} {row['precision']}" for row in judged if row["status"] == "done"]
    return f"self-test passed: {', '.join(passed) or 'none'}"
