"""Tensors and text as files that are there whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from t2d_runtime.errors import OutputError
from t2d_runtime.storage.whole_file import whole_file


def check_output_folder(output: Path) -> None:
    """Raise OutputError unless `output` is a folder, or one that can be made; makes nothing."""
    existing = next(path for path in (output, *output.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise OutputError(f"cannot write {output}: {existing} is no folder; choose another --output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {output}: no permission to write in {existing}; choose another --output")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; a metadata text belongs to every key. Raises OutputError."""
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with whole_file(path) as file:
        file.write(safetensors.torch.save(content, dict(metadata or {})))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text. Raises OutputError."""
    with whole_file(path) as file:
        file.write(text.encode())


def remove_leftovers(folder: Path, names: str) -> None:
    """Remove what a process that was killed while writing files of these names (a pattern) left in a folder."""
    for leftover in folder.glob(f".{names}-*"):
        leftover.unlink(missing_ok=True)
