"""Facts that a measurement depends on besides the code: processor, versions, load of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from t2d_runtime import __version__
from t2d_runtime.device.cpu import cpu

PACKAGES = ("numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")
"""Packages whose versions change the runtime's figures."""


@dataclass(frozen=True)
class MachineFacts:
    """The machine and the versions with which figures were measured."""

    date: str
    cpu: str
    cores: int | None
    load_average: float | None
    """Runnable tasks over the last 5 minutes; None where the system does not count them."""
    cpu_features: tuple[str, ...]
    python: str
    platform: str
    versions: Mapping[str, str]
    commit: str | None = None
    """Commit of the measuring checkout, with "+changes" where its files differ from the commit."""


def machine_facts(packages: Sequence[str] = (), commit: str | None = None) -> MachineFacts:
    """Facts of this machine now, with the versions of further `packages` where they are installed."""
    return MachineFacts(
        date=datetime.now(UTC).date().isoformat(),
        cpu=cpu().model,
        cores=os.cpu_count(),
        load_average=round(os.getloadavg()[1], 1) if hasattr(os, "getloadavg") else None,
        cpu_features=cpu().units,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        versions=installed_versions((*PACKAGES, *packages)),
        commit=commit,
    )


def installed_version(package: str) -> str | None:
    """Version of an installed package, which is not imported."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Version of this distribution, which may run from a checkout, and of those packages that are installed."""
    found = {name: installed_version(name) for name in packages}
    return {"t2d-runtime": __version__} | {name: version for name, version in found.items() if version is not None}


def peak_resident_bytes() -> int | None:
    """Peak memory of this process; None where the system does not count it."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: on Linux its peak is inherited from the process that started this one.
        found = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(found[0].split()[1]) * 1024 if found else None
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
