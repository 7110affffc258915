"""Size of an installation on disk, measured in new environments made from the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.latency.processes import MIB
from benchmarks.latency.setup import Setup
from benchmarks.latency.tables import Comparison, Row
from t2d_runtime.errors import BenchmarkError

ROOT = Path(__file__).parents[2]
NOT_SOURCES = (".*", "build", "output", "runs", "node_modules", "*.egg-info", "__pycache__")
"""Files left out of the checkout's copy in which the distribution is built."""

EXTRAS = ("cpu", "cpu,openvino")
BLOCK_BYTES = 512
"""Unit of `st_blocks`, on every file system."""

LARGEST = 6
"""Number of packages that a row names."""


def installed(_setup: Setup) -> Comparison:
    """Sizes with ONNX Runtime alone, and with every CPU engine. pip itself is not counted."""
    return Comparison("installed on disk", tuple(_row(extras) for extras in EXTRAS), unit="MiB")


def _row(extras: str) -> Row:
    with tempfile.TemporaryDirectory() as name:
        checkout, folder = Path(name) / "checkout", Path(name) / "environment"
        shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*NOT_SOURCES))
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
        for command in (
            [sys.executable, "-m", "venv", "--without-pip", str(folder)],
            [*pip, "install", "--quiet", "--disable-pip-version-check", f"{checkout}[{extras}]"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchmarkError(f"cannot install t2d-runtime[{extras}]: {done.stderr.strip()}")
        packages = [path for path in next(folder.glob("lib/python*/site-packages")).iterdir() if path.is_dir()]
        sizes = sorted(((disk_bytes(path), path.name) for path in packages), reverse=True)
        note = "largest: " + ", ".join(f"{package} {size / MIB:.0f}" for size, package in sizes[:LARGEST])
        return Row(f"t2d-runtime[{extras}]", disk_bytes(folder) / MIB, note=note)


def disk_bytes(folder: Path) -> int:
    """Disk space of a folder's files, counted as by du."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * BLOCK_BYTES
