"""Runs stages one after the other, each in a process of its own with a limit of time, so that a crash costs one row."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from benchmarks.gpu.stages import Stage

LEAST_S = 8.0
"""A stage that would get less time is not started: a process needs some seconds to import its libraries."""

FLOOR_S = 30.0
"""A stage may take so long, whatever its share, while that much time is left."""

SHARES = 3.0
"""Times its even share of the remaining time that a stage may take; most take less, and a hanging one no more."""

Status = Literal["done", "failed", "not run"]


@dataclass(frozen=True)
class Outcome:
    """The end of a process."""

    lines: tuple[str, ...]
    """JSON objects that it printed, each the figures so far."""
    error: str | None
    """None where it ended well."""


@dataclass(frozen=True)
class Row:
    """A stage and what came of it."""

    name: str
    subject: str
    precision: str
    what: str
    status: Status
    error: str | None = None
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


Runner = Callable[[Stage, float], Outcome]
"""Runs a stage within so many seconds."""


def run_stages(
    stages: Iterable[Stage],
    runner: Runner,
    *,
    seconds: float,
    report: Callable[[list[Row]], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[Row]:
    """Rows of all stages; `report` gets those so far after each one. The remaining time is shared out by weight."""
    waiting, end, rows = list(stages), clock() + seconds, list[Row]()
    while waiting:
        stage, left = waiting[0], end - clock()
        limit = min(left, SHARES * left * stage.weight / sum(one.weight for one in waiting))
        limit = max(limit, min(left, FLOOR_S))
        needed = next((row for row in rows if row.name == stage.after), None)
        rows.append(_row(stage, runner, limit, needed, clock))
        report(rows)
        waiting.pop(0)
    return rows


def _row(stage: Stage, runner: Runner, limit: float, needed: Row | None, clock: Callable[[], float]) -> Row:
    row = partial(Row, stage.name, stage.subject, stage.precision, stage.what)
    if needed is not None and needed.status != "done":
        return row("not run", f"its {needed.what}: {needed.status}")
    if limit < LEAST_S:
        return row("not run", "no time left")
    start = clock()
    outcome = runner(stage, limit)
    figures: dict[str, Any] = {}
    for line in outcome.lines:
        try:
            figures |= json.loads(line)
        except (ValueError, TypeError):  # a library that prints, or a line cut short by a crash
            continue
    failed = outcome.error or figures.pop("error", None)
    return row("failed" if failed else "done", failed, clock() - start, figures)


def in_process(stage: Stage, limit: float) -> Outcome:
    """Run a stage by `benchmarks.gpu.child`. Its process group ends with it, or at the limit."""
    command = [sys.executable, "-m", "benchmarks.gpu.child", stage.task, json.dumps(stage.arguments)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
    ):
        process = subprocess.Popen(command, stdout=printed, stderr=log, process_group=0)
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end_group(process)
        printed.seek(0)
        log.seek(0)
        return Outcome(tuple(printed.read().splitlines()), _error(status, limit, log.read()))


def _error(status: int | None, limit: float, log: str) -> str | None:
    said = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "no message")
    if status is None:
        return f"not done after {limit:.0f} s: {said}"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}: {said}"
    return None if status == 0 else said


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
