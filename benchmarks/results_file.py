"""Result files: figures with their machine, versions and commit."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from t2d_runtime.device.machine import machine_facts
from t2d_runtime.storage.whole_file import whole_file

PACKAGES = ("torch", "timm", "open_clip_torch", "onnx")
"""Packages of the PyTorch side and the export, besides the runtime's."""


def write_results(path: Path, command: str, figures: dict[str, Any]) -> None:
    """Save figures as JSON with `provenance`. Raises OutputError."""
    content = {"command": command, "provenance": provenance(), "figures": figures}
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def provenance() -> dict[str, Any]:
    """Fields of `MachineFacts`; the processor's name says whether `scripts/narrow` took units away from it."""
    facts = asdict(machine_facts(PACKAGES, _commit()))
    if narrower := os.environ.get("NARROWED_TO"):
        facts["cpu"] += f", narrowed to the units of {narrower}"
    return facts


@cache
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
