"""Files that are there whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from t2d_runtime.errors import OutputError


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place.

    Raises OutputError where the disk is full, or the folder cannot be written; `path` is then what it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # a crash of the machine must not leave the name without the content
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} could not be written: {_reason(path, error)}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """`write_file` of UTF-8 text."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while writing left in a folder."""
    for leftover in folder.glob(".*.partial"):
        leftover.unlink(missing_ok=True)


def _reason(path: Path, error: Exception) -> str:
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    free_mb = shutil.disk_usage(existing).free // 1_000_000
    return f"{str(error).splitlines()[0]} ({free_mb} MB free); free some space or name another --output"
