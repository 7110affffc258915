"""`scripts/narrow`: a process and its children that are told of fewer vector units than the processor has."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NARROWED = ROOT / "scripts" / "narrowed"

PROGRAM = r"""
#include <cpuid.h>
unsigned leaf(unsigned leaf, int reg) {
    unsigned got[4] = {0};
    __cpuid_count(leaf, 0, got[0], got[1], got[2], got[3]);
    return got[reg];
}
void illegal(void) { __asm__ volatile("ud2; ud2"); }
"""
CALLS = """
import ctypes, faulthandler, sys
faulthandler.enable()  # takes the signal for itself where it may
library = ctypes.CDLL(sys.argv[1])
for leaf, register in ((1, 2), (7, 1), (7, 2), (0, 1)):
    print(library.leaf(leaf, register) & 0xffffffff)
if len(sys.argv) > 2:
    library.illegal()
"""

AVX512 = sum(1 << bit for bit in (16, 17, 21, 26, 27, 28, 30, 31))
VBMI_TO_VPOPCNT = sum(1 << bit for bit in (1, 6, 8, 9, 10, 11, 12, 14))
AVX2_AND_BMI = sum(1 << bit for bit in (3, 5, 8))
FMA_TO_F16C = sum(1 << bit for bit in (12, 22, 26, 27, 28, 29))
LACKS = {
    "Icelake": (0, 0, 0, 0),
    "Haswell": (0, AVX512, VBMI_TO_VPOPCNT, 0),
    "Nehalem": (FMA_TO_F16C, AVX512 | AVX2_AND_BMI, VBMI_TO_VPOPCNT, 0),
}
"""Processor -> bits that it lacks in leaf 1's ECX, leaf 7's EBX and ECX, and leaf 0's EBX (Intel's manual, 2A)."""

needs_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64" or not sys.platform.startswith("linux"), reason="narrows x86-64 on Linux alone"
)
needs_tools = pytest.mark.skipif(not (shutil.which("cc") and shutil.which("objdump")), reason="needs cc and objdump")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library that asks CPUID, in a folder with what narrows it."""
    (tmp_path / "ask.c").write_text(PROGRAM)
    for source, made in ((tmp_path / "ask.c", "libask.so"), (NARROWED / "cpuid.c", "cpuid.so")):
        command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", str(source), "-o", str(tmp_path / made), "-ldl"]
        subprocess.run(command, check=True)
    subprocess.run([sys.executable, str(NARROWED / "sites.py"), str(tmp_path / "sites"), str(tmp_path)], check=True)
    return tmp_path / "libask.so"


def ask(library: Path, narrower: str | None, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    folder = library.parent
    narrow = {
        "NARROWED_TO": str(narrower),
        "NARROWED_SITES": str(folder / "sites"),
        "LD_AUDIT": str(folder / "cpuid.so"),
        "LD_PRELOAD": str(folder / "cpuid.so"),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NARROWED_", "LD_"))}
    environment = kept | (narrow if narrower else {}) | more
    command = [sys.executable, "-c", CALLS, str(library), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@needs_x86
@needs_tools
@pytest.mark.parametrize("narrower", sorted(LACKS))
def test_a_library_is_told_what_the_narrower_processor_has(library: Path, narrower: str) -> None:
    here, there = (ask(library, name).stdout.split() for name in (None, narrower))
    assert [int(told) for told in there] == [
        int(told) & ~lacking for told, lacking in zip(here, LACKS[narrower], strict=True)
    ]


@needs_x86
@needs_tools
def test_another_illegal_instruction_ends_the_process(library: Path) -> None:
    assert ask(library, "Haswell", "illegal").returncode == -signal.SIGILL


@needs_x86
@needs_tools
def test_a_library_that_was_not_searched_or_has_changed_is_an_error(library: Path) -> None:
    sites = library.parent / "sites"
    found = sites.read_text()
    sites.write_text("")
    done = ask(library, "Haswell", NARROWED_ROOT=str(library))
    assert (done.returncode, done.stderr) == (127, f"narrowed: NARROWED_SITES says nothing of {library}\n")
    sites.write_text(found.replace("libask.so\t", "libask.so\t0 "))
    done = ask(library, "Haswell")
    assert (done.returncode, done.stderr) == (127, f"narrowed: NARROWED_SITES is older than {library}\n")
    done = ask(library, "Pentium")
    assert done.stderr == "narrowed: NARROWED_TO names no processor that is known here: Pentium\n"


def test_a_processor_that_is_not_known_is_a_usage() -> None:
    for arguments in ((), ("Pentium",), ("--emulated",), ("--emulated", "Icelake")):
        command = ["bash", "scripts/narrow", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: bash scripts/narrow Haswell|Nehalem|Skylake-X|Icelake [PYTEST ARGUMENTS")
