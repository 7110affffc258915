"""A lock between threads and processes that would write to one place of a cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from t2d_runtime.storage.hub import hub_library
from t2d_runtime.storage.whole_file import cannot_write

logger = logging.getLogger(__name__)

TOLD_AFTER_S = 2.0
"""Wait for another process after which the log says so."""


@contextmanager
def alone(place: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep other threads and processes from a place, by a lock on the file PLACE.lock beside it.

    The file stays: whoever waits holds it open, and would not exclude one who makes it anew. The system frees the lock
    of a process that ends. Raises OutputError where the file cannot be made, and without `wait` where it is locked.
    """
    lock = place.with_name(f"{place.name}.lock")
    locked = hub_library().utils.WeakFileLock  # also on file systems without locks of their own
    with ExitStack() as held:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(locked(lock, timeout=TOLD_AFTER_S if wait else 0.1))
            except TimeoutError:
                if not wait:
                    raise
                logger.warning("another process is filling %s; waiting for it", place)
                held.enter_context(locked(lock))
        except OSError as error:
            raise cannot_write(lock, error) from error
        yield
