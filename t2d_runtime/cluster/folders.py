"""Temporary folders of Ray on this machine, which do not outlive the command, even one that was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_PARENT = 40
"""Characters of the path of the system's temporary folder. Ray's sockets have 107 at most for theirs."""

PREFIX = "t2d-ray-"

LOCK = "in-use"
"""File in a folder that its process holds a lock of; the system frees the lock when the process ends."""

NEW_S = 60
"""Age below which a folder is left alone: its process may be about to lock it."""


@contextmanager
def ray_folder() -> Iterator[Path]:
    """Gives a new folder for Ray's logs and sockets, and removes it after the block, with those of killed processes."""
    from filelock import FileLock

    usual = tempfile.gettempdir()
    parent = Path(usual if len(usual) <= LONGEST_PARENT else "/tmp")
    remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    with FileLock(folder / LOCK):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Remove this user's folders whose lock nobody holds."""
    from filelock import FileLock, Timeout

    for lock in parent.glob(f"{PREFIX}*/{LOCK}"):
        try:
            facts = lock.stat()
            if facts.st_uid != os.getuid() or time.time() - facts.st_mtime < NEW_S:
                continue
            with FileLock(lock, blocking=False):
                shutil.rmtree(lock.parent, ignore_errors=True)
        except (OSError, Timeout):  # another process removes it, or works in it
            continue
