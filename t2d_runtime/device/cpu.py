"""This machine's processor: its name, and the vector units that decide which kernels run."""

from __future__ import annotations

import functools
import importlib
import itertools
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")

UNITS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)
"""Flags of /proc/cpuinfo, of x86 and of ARM."""

NUMPY_NAMES = {
    "avx2": "AVX2",
    "avx512f": "AVX512F",
    "avx512_vnni": "AVX512VNNI",
    "avx512_bf16": "AVX512BF16",
    "asimd": "ASIMD",
    "asimddp": "ASIMDDP",
    "sve": "SVE",
}
"""Unit -> NumPy's name for it. Not every version of NumPy looks for each."""


class Cpu(NamedTuple):
    """A processor. It has no units here where they cannot be found out."""

    model: str
    units: tuple[str, ...]


@functools.cache
def cpu() -> Cpu:
    """The processor that runs this process.

    NumPy asks the processor itself (CPUID on x86), on every system. /proc/cpuinfo knows more units, but it describes
    the machine: under an emulator that is another processor than the one that runs this process.
    """
    try:
        with CPUINFO.open(encoding="utf-8") as file:
            told = described(iter(file.readline, ""))
    except OSError:  # not Linux
        told = Cpu(platform.processor() or platform.machine(), ())
    return Cpu(told.model, confirmed(told.units, numpy_features()))


def described(lines: Iterable[str]) -> Cpu:
    """The first processor of /proc/cpuinfo; an empty line ends it."""
    pairs = (line.split(":", 1) for line in itertools.takewhile(str.strip, lines) if ":" in line)
    first = {key.strip(): value.strip() for key, value in pairs}
    flags = (first.get("flags") or first.get("Features", "")).split()
    return Cpu(first.get("model name", platform.machine()), tuple(unit for unit in UNITS if unit in flags))


def confirmed(told: Iterable[str], features: Mapping[str, bool]) -> tuple[str, ...]:
    """The units that NumPy finds, and those in `told` that NumPy does not look for.

    Where NumPy denies a unit in `told`, then `told` describes another processor, and is ignored.
    """
    told = set(told)
    asked = {unit: features[name] for unit, name in NUMPY_NAMES.items() if name in features}
    if any(not asked.get(unit, True) for unit in told):
        told = set()
    return tuple(unit for unit in UNITS if asked.get(unit, unit in told))


def numpy_features() -> Mapping[str, bool]:
    """NumPy's names of vector units -> whether the processor has them; empty where NumPy does not tell."""
    try:  # it is not part of NumPy's public interface
        features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return {}
    return {str(name): bool(found) for name, found in features.items()}


def cpu_name() -> str:
    """Model and vector units, such as "AMD EPYC (avx2 avx512f avx512_vnni)"."""
    model, units = cpu()
    return f"{model} ({' '.join(units)})"
