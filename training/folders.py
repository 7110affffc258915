"""Output folders of commands. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2d_runtime.errors import OutputError
from t2d_runtime.storage.whole_folder import whole_folder


def check_output_folder(output: Path) -> None:
    """Raise OutputError unless `output` is a folder or can be made. Does not make it."""
    existing = next(path for path in (output, *output.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise OutputError(f"cannot write {output}: {existing} is no folder; choose another --output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {output}: no permission to write in {existing}; choose another --output")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder that appears whole or not at all, and replaces nothing.

    Raises OutputError where `output` exists or cannot be made, before any work.
    """
    if os.path.lexists(output):
        raise OutputError(f"expected a folder that does not exist yet, got {output}; remove it or name another")
    check_output_folder(output)
    with whole_folder(output) as folder:
        yield folder
