"""What this machine's processor is: its name and the vector units that decide which kernels run."""

from __future__ import annotations

import functools
import itertools
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")

UNITS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)
"""Flags of /proc/cpuinfo, of x86 and of ARM."""


class Cpu(NamedTuple):
    """A processor; without units where the system does not tell them."""

    model: str
    units: tuple[str, ...]


@functools.cache
def cpu() -> Cpu:
    """The first processor of this machine."""
    try:
        with CPUINFO.open(encoding="utf-8") as file:
            return described(iter(file.readline, ""))
    except OSError:  # not Linux
        return Cpu(platform.processor() or platform.machine(), ())


def described(lines: Iterable[str]) -> Cpu:
    """The first processor of /proc/cpuinfo; processors are apart by an empty line."""
    pairs = (line.split(":", 1) for line in itertools.takewhile(str.strip, lines) if ":" in line)
    first = {key.strip(): value.strip() for key, value in pairs}
    flags = (first.get("flags") or first.get("Features", "")).split()
    return Cpu(first.get("model name", platform.machine()), tuple(unit for unit in UNITS if unit in flags))


def cpu_name() -> str:
    """Model and vector units, such as "AMD EPYC (avx2 avx512f avx512_vnni)"."""
    model, units = cpu()
    return f"{model} ({' '.join(units)})"
