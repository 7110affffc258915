"""Checks of a path's kind. They give False where it cannot be found out: a name too long, a folder without access."""

from __future__ import annotations

import stat
from pathlib import Path


def is_folder(path: Path) -> bool:
    """True where a path names a folder, or a link to one."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """True where a path names a regular file, or a link to one."""
    return stat.S_ISREG(_mode(path))


def is_pipe(path: Path) -> bool:
    """True where a path names a pipe."""
    return stat.S_ISFIFO(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # ValueError for NUL, or for a character that the file system's encoding lacks
        return 0
