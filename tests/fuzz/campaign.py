"""Runs damaged inputs and says what became of each: a result, or an error of the project's own."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random
from typing import IO, Any, NamedTuple

from t2d_runtime.errors import T2DError
from tests.fuzz.kinds import KINDS

LONGEST_S = 10.0
"""Seconds after which an input counts as a hang."""

STARTING_S = 120.0
"""Seconds for a process to import everything, on a busy machine."""

PROCESS_INPUTS = 500
"""Inputs after which a process is replaced."""


LIBTIFF_WORDS = re.compile(r"(\S*: .*\n?)+")
"""libtiff writes a line to standard error for damaged data, and Pillow has no switch for it. Counted, no finding."""


class Outcome(NamedTuple):
    """What became of an input: "result", "refused", "libtiff" (refused, in libtiff's words too), or a finding.

    Findings are "traceback", "noise" on standard error, "slow", "hang" and "crash".
    """

    kind: str
    index: int
    status: str
    detail: str = ""

    @property
    def is_finding(self) -> bool:
        """Whether it is to be mended."""
        return self.status not in ("result", "refused", "libtiff")


def run_input(kind: str, seed: int, index: int, folder: Path, bundle: Path) -> Outcome:
    """Make one input and take it, in this process. The same kind, seed and index give the same input."""
    call = KINDS[kind](Random(f"{kind} {seed} {index}"), folder, bundle)
    start = time.monotonic()
    try:
        call()
        status, detail = "result", ""
    except T2DError as error:
        status, detail = "refused", str(error)
        if "\n" in detail or not detail:
            status = "traceback"  # a message is one line
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        status, detail = "traceback", "".join(traceback.format_exception(error))
    if time.monotonic() - start > LONGEST_S:
        status, detail = "slow", f"{time.monotonic() - start:.1f} s"
    return Outcome(kind, index, status, detail)


def campaign(kind: str, seed: int, count: int, bundle: Path) -> Iterator[Outcome]:
    """Outcomes of `count` inputs, run in processes of their own: a hang or a crash ends one of these alone."""
    index = 0
    while index < count:
        stop = min(count, index + PROCESS_INPUTS)
        for outcome in _process(kind, seed, index, stop, bundle):
            index = outcome.index + 1
            yield outcome


def work(kind: str, seed: int, start: int, stop: int, bundle: Path) -> None:
    """Run inputs and print a line before and after each: what such a process does."""
    warnings.simplefilter("always")
    logging.getLogger("t2d_runtime").addHandler(logging.NullHandler())
    logging.getLogger("t2d_runtime").propagate = False
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 1)
        os.dup2(noise.fileno(), 2)
        for index in range(start, stop):
            print(json.dumps(["begun", index]), file=report, flush=True)
            outcome = run_input(kind, seed, index, Path(folder), bundle)
            sys.stdout.flush()
            sys.stderr.flush()
            noise.seek(0)
            if (said := noise.read()) and not outcome.is_finding:
                text = said.decode("utf-8", "replace")
                known = kind == "images" and LIBTIFF_WORDS.fullmatch(text) and "Warning" not in text
                outcome = outcome._replace(status="libtiff" if known else "noise", detail=text)
            noise.seek(0)
            noise.truncate()
            print(json.dumps(["done", *outcome]), file=report, flush=True)


def _process(kind: str, seed: int, start: int, stop: int, bundle: Path) -> Iterator[Outcome]:
    command = [sys.executable, "-m", "tests.fuzz", "--work", kind, str(seed), str(start), str(stop), str(bundle)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # as in this process
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        lines: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=_hand_over, args=(process.stdout, lines), daemon=True).start()
        index, wait_s = start, STARTING_S
        while index < stop:
            try:
                line = lines.get(timeout=wait_s)
            except Empty:
                process.kill()
                yield Outcome(kind, index, "hang", f"more than {wait_s:.0f} s")
                return
            if not line:
                yield Outcome(kind, index, "crash", f"exit status {process.wait()}")
                return
            event, *values = json.loads(line)
            # Twice the time: the process itself says what took longer and came to an end.
            wait_s = 2 * LONGEST_S
            if event == "done":
                yield Outcome(*values)
                index = values[1] + 1


def _hand_over(stream: IO[str], lines: SimpleQueue[str]) -> None:
    """Lines as they come, and an empty one at the end."""
    for line in stream:
        lines.put(line)
    lines.put("")


def summary(outcomes: Counter[str]) -> str:
    """How many of each status, in words."""
    return ", ".join(f"{count} {status}" for status, count in sorted(outcomes.items()))
