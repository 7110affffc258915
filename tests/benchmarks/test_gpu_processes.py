"""Processes of the benchmark of a GPU: none is left behind on it, however the benchmark ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from t2d_runtime.commands.running import TERMINATED


def there(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_benchmark_takes_its_process_with_it(tmp_path: Path) -> None:
    """On Linux alone: elsewhere nothing tells a process that the one that started it is gone."""
    ready = tmp_path / "ready"
    child = (
        "import sys, time; from benchmarks.gpu.child import end_with_parent; end_with_parent(); "
        "open(sys.argv[1], 'w').close(); time.sleep(60)"
    )
    code = (
        "import subprocess, sys, time; command = [sys.executable, '-c', *sys.argv[1:]]; "
        "print(subprocess.Popen(command, process_group=0).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, child, str(ready)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for(ready.exists)
        parent.kill()
    if sys.platform == "linux":
        wait_for(lambda: not there(pid))
    else:
        os.kill(pid, signal.SIGKILL)


def test_a_benchmark_that_is_told_to_end_ends_its_process(tmp_path: Path) -> None:
    program, number = tmp_path / "python", tmp_path / "number"
    program.write_text('#!/bin/sh\necho $$ > "$3.part"; mv "$3.part" "$3"; exec sleep 300\n')
    program.chmod(0o755)
    code = (
        "import sys; from benchmarks.gpu.running import in_process; from benchmarks.gpu.stages import Stage; "
        "from t2d_runtime.commands.running import run_command; sys.executable, task = sys.argv[1:]; "
        "sys.exit(run_command('benchmarks', lambda: len(in_process(Stage('', '', '', task), 300).lines)))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(program), str(number)], stderr=subprocess.PIPE)
    wait_for(number.exists)
    parent.terminate()
    said = parent.communicate()[1]
    assert (parent.returncode, said) == (TERMINATED, b"benchmarks: terminated\n")
    wait_for(lambda: not there(int(number.read_text())))


def test_figures_count_where_python_crashes_as_it_ends(tmp_path: Path) -> None:
    code = (
        "import atexit, os, runpy, sys; atexit.register(os.abort); sys.argv = ['child', *sys.argv[1:]]; "
        "runpy.run_module('benchmarks.gpu.child', run_name='__main__')"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, "masks", '{"bundle": "no-such-folder"}']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no-such-folder" in done.stderr.splitlines()[-1]
