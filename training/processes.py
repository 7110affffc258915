"""Worker processes of a command. They end with it, and leave Ctrl-C and SIGTERM to it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

# Windows has neither. macOS does not tell the sender of a signal, and the pool must still be able to end its workers.
_KEPT = {signal.SIGINT, signal.SIGTERM} if hasattr(signal, "sigwaitinfo") else {signal.SIGINT}


@contextmanager
def signals_to_parent() -> Iterator[None]:
    """Context for starting processes: Ctrl-C and a service manager's SIGTERM, sent to all, reach only the parent.

    The parent ends its workers in order. Workers that ended by themselves would be reported as failed.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT)  # children inherit the mask and keep it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(_worker: int = 0) -> None:
    """Initializer of a worker, which would otherwise wait for work for ever after its parent was killed."""
    threading.Thread(target=_watch_parent, daemon=True).start()
    if signal.SIGTERM in _KEPT and signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        threading.Thread(target=_end_when_told, daemon=True).start()


def _watch_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end_when_told() -> None:
    """End on SIGTERM from the parent's pool, which sends it to a worker that does not answer."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(1)
