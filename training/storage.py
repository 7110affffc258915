"""Writes tensors and text to files that are complete or missing, whatever interrupts the writing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from t2d_runtime.storage.whole_file import whole_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; metadata are text by key. Raises OutputError."""
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with whole_file(path) as file:
        file.write(safetensors.torch.save(content, dict(metadata or {})))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text. Raises OutputError."""
    with whole_file(path) as file:
        file.write(text.encode())


def remove_leftovers(folder: Path, names: str) -> None:
    """Remove temporary files that a killed process left while writing files named like `names` (a pattern)."""
    for leftover in folder.glob(f".{names}-*"):
        leftover.unlink(missing_ok=True)
