"""Rows of installed size: a new environment from the checkout, on disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.pipeline.rows import Row
from benchmarks.pipeline.setup import Setup
from t2d_runtime.errors import BenchmarkError

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "t2d_runtime", "t2d_export")
"""What a distribution is built from: copied, since building writes beside them."""
BLOCK_BYTES = 512
"""Unit of `st_blocks`, whatever the file system's own."""

BARS_MIB = {"cpu": 250.0, "cpu,openvino": 450.0}
"""As `du -m` counts."""

MIB = 2**20


def installed_rows(_setup: Setup) -> list[Row]:
    """ONNX Runtime alone, and every accelerator of a CPU; pip itself is not counted."""
    rows = []
    for extras, bar in BARS_MIB.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "environment"
            install(_copied_sources(Path(name) / "checkout"), extras, folder)
            sizes = package_bytes(folder)
            total = disk_bytes(folder)
        largest = ", ".join(f"{package} {size / MIB:.0f}" for package, size in sizes[:6])
        note = f"{total / 1e6:.0f} million bytes on disk; largest: {largest}"
        rows.append(Row(f"installed, t2d-runtime[{extras}]", total / MIB, "MiB", bar, at_most=True, note=note))
    return rows


def install(checkout: Path, extras: str, folder: Path) -> None:
    """A virtual environment with the checkout and its extras. Raises BenchmarkError."""
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    commands = (
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [*pip, "install", "--quiet", "--disable-pip-version-check", f"{checkout}[{extras}]"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"cannot install t2d-runtime[{extras}]: {done.stderr.strip()}")


def _copied_sources(target: Path) -> Path:
    target.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target / name)
    return target


def disk_bytes(folder: Path) -> int:
    """What the files of a folder take on disk, as du counts."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * BLOCK_BYTES


def package_bytes(folder: Path) -> list[tuple[str, int]]:
    """Folders of site-packages, the largest first."""
    packages = next(folder.glob("lib/python*/site-packages"))
    sizes = {path.name: disk_bytes(path) for path in packages.iterdir() if path.is_dir()}
    return sorted(sizes.items(), key=lambda item: -item[1])
