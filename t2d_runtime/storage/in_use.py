"""Folders of the cache that programs work with: a mark in each is held open, and a held folder is not removed."""

from __future__ import annotations

import os
import shutil
import sys
import weakref
from pathlib import Path

if sys.platform != "win32":  # there a folder with an open file cannot be renamed, so that no lock is needed
    import fcntl

GOING = "-removed"
"""End of the name of a folder that is being removed."""


def hold(mark: Path, user: object) -> None:
    """Keep the folder of a file from `remove_unused`, in every process, for as long as `user` lives.

    Does nothing where the file cannot be opened or locked: then the folder is not kept.
    """
    try:
        handle = os.open(mark, os.O_RDONLY)
    except OSError:
        return
    weakref.finalize(user, os.close, handle)
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # it is being removed, or its file system has no locks
            return


def remove_unused(mark: Path) -> bool:
    """Remove the folder of a file; False where somebody holds it, or it cannot be removed.

    It loses its name first, so that it is never there in part.
    """
    folder = mark.parent
    going = folder.with_name(f".{folder.name}{GOING}")
    try:
        handle = os.open(mark, os.O_RDWR)
    except FileNotFoundError:  # nobody can hold it
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    except OSError:
        return False
    try:
        if sys.platform != "win32":
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.close(handle)
            handle = -1
        folder.rename(going)
    except OSError:
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    for path in folder.parent.glob(f".*{GOING}"):  # also what a process that was killed had begun to remove
        shutil.rmtree(path, ignore_errors=True)
    return True
