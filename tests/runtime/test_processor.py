"""The tests run on the processor that they are said to run on, and so do the processes that they start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from t2d_runtime.device.cpu import cpu, numpy_features

ASKED = os.environ.get("T2D_TEST_PROCESSOR")
"""Set by `scripts/narrow`; else the tests run on the machine's own."""

FEATURES: dict[str | None, dict[str, bool]] = {
    "Haswell": {"SSE42": True, "AVX2": True, "FMA3": True, "AVX512F": False, "AVX512VNNI": False, "AVX512BF16": False},
    "Skylake-X": {"AVX512F": True, "AVX512VNNI": False, "AVX512BF16": False},
    "Icelake": {"AVX512F": True, "AVX512VNNI": True, "AVX512BF16": False},
    "Nehalem": {"SSE42": True, "AVX": False, "AVX2": False, "FMA3": False, "AVX512F": False},
    None: {},
}
"""Processor -> NumPy's names of vector units -> whether it has them."""

UNITS = {
    "Haswell": ("avx2",),
    "Skylake-X": ("avx2", "avx512f"),
    "Icelake": ("avx2", "avx512f", "avx512_vnni"),
    "Nehalem": (),
    None: cpu().units,
}


def test_this_process_is_as_narrow_as_was_asked() -> None:
    found = numpy_features()
    assert {name: found[name] for name in FEATURES[ASKED]} == FEATURES[ASKED]
    assert cpu().units == UNITS[ASKED]


@pytest.mark.parametrize("depth", [1, 2])
def test_the_processes_that_tests_start_are_too(depth: int) -> None:
    """Those that they start in turn included."""
    code = "from t2d_runtime.device.cpu import numpy_features; print(sorted(numpy_features().items()))"
    if depth == 2:
        code = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.strip() == str(sorted(numpy_features().items()))
