"""Running a command: every end of it as an exit status, and as one line where it failed."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from t2d_runtime.commands.terminal import complain, discard_output, flush_output, prepare_streams
from t2d_runtime.errors import T2DError

logger = logging.getLogger(__name__)

FAILED_CHECK = 1
SOME_FAILED = 1
NOTHING_DONE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143
"""As shells report a program that SIGINT, SIGPIPE or SIGTERM ended."""


def run_command(program: str, command: Callable[[], int]) -> int:
    """Run a command; what ends it becomes one line on standard error and an exit status.

    The statuses: 0 done, 1 a check or some items of many failed, 2 nothing could be done. An error of the operating
    system that nobody foresaw is one line too, with its traceback where the log is at INFO, as with -v; any other
    error is a fault of this program and keeps its traceback.
    """
    prepare_streams()
    try:
        with _unwound_by_sigterm():
            status = command()
        flush_output()
        return status
    except T2DError as error:
        complain(f"{program}: error: {error}")
        return NOTHING_DONE
    except KeyboardInterrupt:
        complain(f"{program}: interrupted")
        return INTERRUPTED
    except SystemExit as ending:
        if ending.code != TERMINATED:
            raise
        complain(f"{program}: terminated")
        return TERMINATED
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; what is still buffered goes nowhere.
        discard_output()
        return PIPE_CLOSED
    except (OSError, MemoryError, UnicodeError) as error:
        logger.info("where it happened:", exc_info=True)
        complain(f"{program}: error: {type(error).__name__}: {str(error) or 'no message'}; -v shows where")
        return NOTHING_DONE
    finally:
        # At its end Python would write what is left, and complain where that cannot be done.
        try:
            flush_output()
        except (BrokenPipeError, T2DError):
            discard_output()


def status_of_batch(done: int, failed: int) -> int:
    """Exit status of a command that works through many items."""
    if not failed:
        return 0
    return SOME_FAILED if done else NOTHING_DONE


@contextlib.contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """SIGTERM, as `timeout` and service managers send it, ends the block as Ctrl-C does: what is half-written goes."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread is told of signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_terminated(number: int, frame: object) -> NoReturn:
    # Quiet in worker processes too, which inherit it where they are forked.
    raise SystemExit(TERMINATED)
