"""Processes that work for a command: they end with it, and leave Ctrl-C and SIGTERM to it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

# Windows has neither; macOS cannot tell who sent a signal, and workers there must still end when the pool ends them.
_KEPT = {signal.SIGINT, signal.SIGTERM} if hasattr(signal, "sigwaitinfo") else {signal.SIGINT}


@contextmanager
def signals_to_parent() -> Iterator[None]:
    """Start processes in this block: Ctrl-C and a service manager's SIGTERM, sent to all, then reach the parent alone.

    The parent ends its workers in order. Workers that ended by themselves would be reported as failed.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT)  # children inherit it, and never lift it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(_worker: int = 0) -> None:
    """Initializer of a worker: it would wait for work for ever where its parent was killed."""
    threading.Thread(target=_watch_parent, daemon=True).start()
    if signal.SIGTERM in _KEPT and signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        threading.Thread(target=_end_when_told, daemon=True).start()


def _watch_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end_when_told() -> None:
    """The parent's pool ends a worker that does not answer by SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(1)
