"""Threads: the cores that this process may use, a container's CPU quota and T2D_NUM_THREADS included."""

from __future__ import annotations

import functools
import logging
import math
import os
from pathlib import Path

from t2d_runtime.checks import is_whole
from t2d_runtime.errors import OptionError

logger = logging.getLogger(__name__)

VARIABLE = "T2D_NUM_THREADS"
"""Environment variable: threads of engines and of PAMR where a call or command names no number."""

MOST_THREADS = 8192
"""Largest number of threads: the most processors that Linux knows on x86."""

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Cores that this process may use at a time: T2D_NUM_THREADS, else its affinity within its CPU quota.

    Raises OptionError where T2D_NUM_THREADS is no whole number from 1.
    """
    return _asked() or min(_affinity(), _own_quota() or _affinity())


def default_num_threads() -> int | None:
    """An engine's default threads: T2D_NUM_THREADS, or a quota below the affinity; None lets the engine choose.

    Engines see the affinity but not the quota. With more threads than the quota, the kernel pauses them all in turn.
    Raises OptionError as `available_cores`.
    """
    cores = available_cores()
    warn_of_many(cores)
    return cores if _asked() or cores < _affinity() else None


def checked_num_threads(num_threads: int | None) -> int | None:
    """The number of threads, checked: 1 to MOST_THREADS, or None. Raises OptionError."""
    if num_threads is None:
        return None
    if not is_whole(num_threads, 1) or num_threads > MOST_THREADS:
        raise OptionError(
            f"num_threads is {num_threads!r:.80}, expected a whole number from 1 to {MOST_THREADS}, or None for the "
            "engine's choice"
        )
    warn_of_many(int(num_threads))
    return int(num_threads)


@functools.cache
def warn_of_many(threads: int) -> None:
    """Log a warning, once, for more threads than cores.

    ONNX Runtime's threads wait actively: 256 on 2 cores, which other programs used too, made no mask within a minute.
    """
    if threads > _affinity():
        logger.warning(
            "%d threads on %d cores: they wait for each other, and every call takes longer; ask for %d or fewer",
            threads,
            _affinity(),
            _affinity(),
        )


def cpu_quota(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """Cores that this process's control groups (version 2 or 1) allow, rounded up; None where there is no limit."""
    limits = [limit for folder in _own_cgroups(cgroups, own) if (limit := _limit(folder)) is not None]
    return max(1, math.ceil(min(limits))) if limits else None


@functools.cache
def _own_quota() -> int | None:
    """The quota when first asked for: PAMR asks for every window, and each answer would read several files."""
    return cpu_quota()


def _asked() -> int | None:
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return None
    if not given.isdecimal() or not 1 <= int(given) <= MOST_THREADS:
        raise OptionError(
            f"{VARIABLE} is {given!r}, expected a whole number from 1 to {MOST_THREADS}; correct it, or unset it"
        )
    return int(given)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_cgroups(cgroups: Path, own: Path) -> list[Path]:
    """Folders of the control groups that this process is in, and of their parents."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # not on this system
        return []
    folders = [cgroups, cgroups / "cpu"]
    for line in lines:
        _, _, fields = line.partition(":")
        controllers, _, path = fields.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        inside = Path(path.lstrip("/"))
        folders += [root / part for part in (inside, *inside.parents) if ".." not in part.parts]
    return folders


def _limit(folder: Path) -> float | None:
    """Quota over period, in cores; None where the folder names none."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        return float(quota) / float(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
