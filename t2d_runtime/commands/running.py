"""Running a command: every ending becomes an exit status, and every failure one line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from t2d_runtime.commands.terminal import complain, discard_output, flush_output, prepare_streams
from t2d_runtime.errors import T2DError
from t2d_runtime.storage.progress import show_bars

logger = logging.getLogger(__name__)

FAILED_CHECK = 1
SOME_FAILED = 1
NOTHING_DONE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143
"""Exit statuses that shells report after SIGINT, SIGPIPE and SIGTERM."""

EXIT_STATUSES = f"""\
Exit status: 0 done, {FAILED_CHECK} a check or some items of many failed, {NOTHING_DONE} nothing could be done;
{INTERRUPTED} interrupted (Ctrl-C), {PIPE_CLOSED} the output's reader has closed it, {TERMINATED} terminated (SIGTERM).
"""
"""The statuses as the help of a program lists them."""


def run_command(program: str, command: Callable[[], int]) -> int:
    """Run a command; an error becomes one line on standard error and an exit status.

    The statuses: 0 done, 1 a check or some items of many failed, 2 nothing could be done. An unforeseen error of the
    operating system is one line too; -v (a log at INFO) adds its traceback. Any other error is a fault of this program
    and keeps its traceback.
    """
    prepare_streams()
    show_bars()
    # The hub's library reads it when it is imported. It warns of retries, whose outcome the errors here tell.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
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
        # The reader of the output, such as `head`, has closed it; what is still buffered is dropped.
        discard_output()
        return PIPE_CLOSED
    except (OSError, MemoryError, UnicodeError) as error:
        logger.info("where it happened:", exc_info=True)
        complain(f"{program}: error: {type(error).__name__}: {str(error) or 'no message'}; -v shows where")
        return NOTHING_DONE
    finally:
        # At exit Python would write the rest, and complain where it cannot.
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
    """Ends the block on SIGTERM (from `timeout`, service managers) as on Ctrl-C: half-written files are removed."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_terminated(number: int, frame: object) -> NoReturn:
    # Forked worker processes inherit this handler, and are quiet too.
    raise SystemExit(TERMINATED)
