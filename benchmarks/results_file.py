"""Result files: figures with the machine, the versions and the commit that they come from."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from t2d_runtime.whole_file import whole_file

PACKAGES = ("t2d-runtime", "numpy", "pillow", "onnxruntime", "openvino", "torch", "timm", "open_clip_torch", "onnx")

CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "sve")
"""Flags of /proc/cpuinfo that decide which kernels run."""


def write_results(path: Path, command: str, figures: dict[str, Any]) -> None:
    """Save figures as JSON with `provenance`. Raises OutputError."""
    content = {"command": command, "provenance": provenance(), "figures": figures}
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def provenance() -> dict[str, Any]:
    """Machine, how busy it was (runnable tasks over the last 5 minutes), versions, commit and date."""
    model, flags = _cpu()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[1], 1) if hasattr(os, "getloadavg") else None,
        "cpu_features": [name for name in CPU_FEATURES if name in flags],
        "python": platform.python_version(),
        "platform": platform.system() + " " + platform.machine(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def _cpu() -> tuple[str, set[str]]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine(), set()
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    cleaned = {key.strip(): value.strip() for key, value in fields.items()}
    return cleaned.get("model name", platform.machine()), set(cleaned.get("flags", cleaned.get("Features", "")).split())


def _commit() -> str | None:
    """The checkout's commit, "+changes" where the tree differs from it; None outside a checkout."""
    root = Path(__file__).parent.parent
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
