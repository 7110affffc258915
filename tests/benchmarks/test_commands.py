"""The command line: each command's help loads that command alone, and no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_its_own_command_and_no_torch(name: str) -> None:
    code = f"""
import sys
from benchmarks.__main__ import COMMANDS, main
try:
    main([{name!r}, "--help"])
except SystemExit as stop:
    assert stop.code == 0
print("loaded:", *(module for module in ("torch", *map("benchmarks.{{}}".format, COMMANDS)) if module in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    usage, loaded = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert usage.startswith(f"usage: python -m benchmarks {name}")
    assert loaded == f"loaded: benchmarks.{name}"


@pytest.mark.parametrize("option", [[], ["-v"]], ids=["plain", "verbose"])
def test_an_unforeseen_error_is_one_line_and_v_shows_where(option: list[str]) -> None:
    code = f"""
import sys
from benchmarks.__main__ import main
from benchmarks.report import command

def run(args):
    raise OSError("the disk is gone")

command.run = run
sys.exit(main(["report", *{option}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "benchmarks: error: OSError: the disk is gone; -v shows where"
    assert ("Traceback" in done.stderr) == bool(option)
