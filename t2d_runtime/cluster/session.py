"""A connection to a Ray cluster: a running one, or one that is started on this machine and ended again."""

from __future__ import annotations

import functools
import gc
import importlib.util
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from t2d_runtime.cluster.folders import ray_folder
from t2d_runtime.cluster.processes import descendants, end_all, watched
from t2d_runtime.device.install import needs_extra
from t2d_runtime.device.threads import available_cores
from t2d_runtime.errors import ClusterError, OptionError

STORE_BYTES = 100 << 20
"""Object store of a local cluster. Only names and counts go through it; Ray takes no less than 75 MB."""

PATIENCE_S = 5.0
"""Seconds for Ray's processes to end by themselves, which they do a moment after its end."""

ANSWER_S = 10
"""Seconds for a cluster's head to accept a connection."""

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^:/\s]+):(?P<port>\d{1,5})")

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # on standard error otherwise
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # the cluster's messages about lost processes, on standard output otherwise
    "RAY_ENABLE_AUTO_CONNECT": "0",  # what is left of Ray's objects would start another cluster after the end
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the way that Ray will take, without its warning
}
"""Environment of this process and, of a local cluster, of Ray's processes. What the user has set stays."""


def require_ray() -> None:
    """Raises MissingPackageError where the extra `cluster` is missing. Ray itself is not imported yet."""
    with needs_extra("cluster"):
        import pyarrow  # noqa: F401
        import pycocotools  # noqa: F401

        if importlib.util.find_spec("ray") is None:
            raise ModuleNotFoundError("no module named 'ray'", name="ray")


def check_address(address: str | None) -> None:
    """Raises OptionError for an address that no run can use."""
    if address is None:
        return
    if address.startswith("ray://"):
        raise OptionError(
            f"the address {address}: Ray Data does not run through Ray's client; run this command on a machine of the "
            "cluster, or with 'ray job submit', and give --address auto"
        )
    if address != "auto" and _ADDRESS.fullmatch(address) is None:
        raise OptionError(
            f"the cluster's address is {address!r}, expected HOST:PORT or auto in --address or the variable RAY_ADDRESS"
        )


def _check_answer(address: str) -> None:
    """Raises ClusterError where nothing listens at an address. Ray itself would try for minutes."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), ANSWER_S).close()
    except OSError as error:
        raise ClusterError(
            f"the cluster at {address} does not answer: {error.strerror or error}; give the address and port of its "
            "head, as 'ray start --head' tells them"
        ) from error


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Connects this process to Ray for a block. Raises ClusterError where that fails, and MissingPackageError.

    `address`: that of a running cluster, "auto" for the one of this machine. None starts one on this machine: its
    processes answer only those who have a random key, it has no dashboard, sends no usage report and ends with the
    block.
    """
    check_address(address)
    with _environment(local=address is None):
        with needs_extra("cluster"):
            import ray
            import ray.data
        before = signal.getsignal(signal.SIGTERM)
        others = descendants()
        with nullcontext() if address is not None else ray_folder() as folder:
            try:
                with _quiet():
                    _connect(address, folder)
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, before)  # Ray sets one of its own, which leaves at once
                for name in ("ray", "ray.data"):
                    logging.getLogger(name).setLevel(logging.CRITICAL)
                yield
            finally:
                _free_iterators(sys.exc_info()[1])
                patience_s = PATIENCE_S if ray.is_initialized() else 0  # what an interrupted start leaves does not end
                with watched(others) as known:
                    ray.shutdown()
                end_all(known, others, patience_s)


def _free_iterators(error: BaseException | None) -> None:
    """End Ray Data's iterators that an error's traceback or a cycle still holds: after Ray's own end they complain."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()


@contextmanager
def _environment(*, local: bool) -> Iterator[None]:
    """Sets what Ray reads from the environment for a block. Some of it Ray reads when it is imported."""
    before = dict(os.environ)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if local:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = _token()
        os.environ["RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"] = "1"  # a container's /dev/shm may have 64 MB
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops what Ray's C++ code prints to standard error in a block; its errors are raised all the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@functools.cache
def _token() -> str:
    """The key of this process's clusters. Ray keeps the first one that it is given."""
    return secrets.token_hex(32)


def _connect(address: str | None, folder: Path | None) -> None:
    import ray

    try:
        if address is not None:
            _check_answer(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            return
        ray.init(
            address="local",
            num_cpus=available_cores(),
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _temp_dir=str(folder),
        )
    except ClusterError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        where = "Ray cannot be started here" if address is None else f"the cluster at {address} cannot be reached"
        raise ClusterError(f"{where}: {' '.join(str(error).split())[:500]}") from error
