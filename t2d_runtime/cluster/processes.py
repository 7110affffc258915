"""Processes that this one has started, and those that they have, on Linux."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PATIENCE_S = 5.0
"""Seconds for processes to end by themselves."""

_POLL_S = 0.02


class Process(NamedTuple):
    """A process, told apart from a later one with the same number."""

    number: int
    started: str
    """Its start, in the clock ticks of the system."""


def descendants() -> set[Process]:
    """The processes below this one; none on a system without /proc."""
    found: set[Process] = set()
    waiting = [os.getpid()]
    while waiting:
        for number in _children(waiting.pop()):
            started = _started(number)
            if started is not None:
                found.add(Process(number, started))
                waiting.append(number)
    return found


def wait_or_kill(processes: Iterable[Process]) -> None:
    """Wait until processes have ended; those that have not after PATIENCE_S are killed."""
    end = time.monotonic() + PATIENCE_S
    left = set(processes)
    while left := {process for process in left if _started(process.number) == process.started}:
        if time.monotonic() > end:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.number, signal.SIGKILL)
            return
        time.sleep(_POLL_S)


def _children(number: int) -> list[int]:
    found = []
    for file in Path(f"/proc/{number}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in file.read_text().split()]
    return found


def _started(number: int) -> str | None:
    """The start of a living process; None where it has ended."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[19]
    return None if state in ("Z", "X") else started
