"""Kinds of what a path names, False where it cannot be asked: a name too long, a folder that must not be entered."""

from __future__ import annotations

import stat
from pathlib import Path


def is_folder(path: Path) -> bool:
    """Whether a path names a folder, or a link to one."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """Whether a path names a regular file, or a link to one."""
    return stat.S_ISREG(_mode(path))


def is_pipe(path: Path) -> bool:
    """Whether a path names a pipe."""
    return stat.S_ISFIFO(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # the latter of a NUL, or of what the file system's encoding lacks
        return 0
