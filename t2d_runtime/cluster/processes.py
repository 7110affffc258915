"""Processes that this one has started, and those that they have, on Linux."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

KILLING_S = 5.0
"""Most seconds to wait for killed processes; one that waits for a disk ends later."""

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


@contextmanager
def watched(others: Set[Process]) -> Iterator[set[Process]]:
    """Gives a set that grows, during a block, by all processes below this one besides some.

    A process whose parent ends is no longer below this one; one that begins and loses its parent within the block is
    found only by looking all the time.
    """
    found, ended = descendants() - others, threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_S):
            found.update(descendants() - others)

    thread = threading.Thread(target=watch, name="t2d processes", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def end_all(known: Set[Process], others: Set[Process], patience_s: float) -> None:
    """Wait until processes have ended, and all below this one besides some; kill those that have not after a while.

    `known`: those that were below this one, of which some may have lost the parent between.
    """
    end = time.monotonic() + patience_s
    left = set(known)
    while left := {process for process in left | (descendants() - others) if _is_alive(process)}:
        if time.monotonic() > end:
            _kill(left, others)
            return
        time.sleep(_POLL_S)


def _kill(processes: Set[Process], others: Set[Process]) -> None:
    """Kill processes and those that they start meanwhile: all are stopped first, so that none loses its parent."""
    stopped: set[Process] = set()
    while new := (processes | (descendants() - others)) - stopped:
        for process in new:
            _send(process, signal.SIGSTOP)
        stopped |= new
    for process in stopped:
        _send(process, signal.SIGKILL)
    end = time.monotonic() + KILLING_S
    while any(map(_is_alive, stopped)) and time.monotonic() < end:
        time.sleep(_POLL_S)


def _send(process: Process, number: signal.Signals) -> None:
    if _is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.number, number)


def _is_alive(process: Process) -> bool:
    return _started(process.number) == process.started


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
