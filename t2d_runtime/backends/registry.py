"""Opening backends: which open here, and which one `auto` takes."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence

from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.names import AUTOMATIC, BACKENDS, installed_module
from t2d_runtime.device.cpu import cpu
from t2d_runtime.errors import BackendUnavailableError, OptionError, T2DError

logger = logging.getLogger(__name__)

WIDE = "avx512f"
"""Vector unit with which OpenVINO is faster than ONNX Runtime in float32."""

RULE = "by rule: OpenVINO is the faster one in float32 with AVX-512, ONNX Runtime without"
"""Reason for `auto_order`, for the log."""


def available_backends() -> list[str]:
    """Names of the backends that open here. Imports every installed one, which takes a second for TensorRT."""
    return [name for name in BACKENDS if opens(name)]


def opens(name: str) -> bool:
    """True where a backend opens here and its device answers."""
    try:
        return open_named(name).identity is not None
    except BackendUnavailableError:
        return False


def open_backend(name: str) -> Backend:
    """Open a backend; `auto` takes the first of `auto_order` that opens and logs why.

    Raises OptionError for an unknown name, BackendUnavailableError where it does not open.
    """
    if name == "auto":
        return open_first(auto_order(), RULE)
    try:
        return open_named(name)
    except BackendUnavailableError as error:
        others = ", ".join(other for other in available_backends() if other != name) or "none"
        raise BackendUnavailableError(f"{error}; other backends here: {others}") from error


def open_candidates(name: str) -> list[Backend]:
    """The backend of a name; with `auto`, all automatic ones that open. Raises as `open_backend`."""
    return list(_opened(auto_order(), RULE)) if name == "auto" else [open_backend(name)]


def open_first(order: Sequence[str], reason: str) -> Backend:
    """Open the first backend of an order that opens, and log it with the reason for the order.

    Raises BackendUnavailableError where none opens.
    """
    return next(_opened(order, reason))


def auto_order() -> tuple[str, ...]:
    """Backends that `auto` tries, the fastest in float32 on this processor first.

    With AVX-512 that is OpenVINO (1.11 times as fast as ONNX Runtime with AVX512-VNNI, 1.26 with AMX, ViT-B/14 at 448).
    With AVX2 alone it is ONNX Runtime (1.09 times; benchmarks/LOG.md). ARM is not measured.
    """
    wide = WIDE in cpu().units
    return tuple(sorted(AUTOMATIC, key=lambda name: (name == "openvino") != wide))


def _opened(order: Sequence[str], reason: str) -> Iterator[Backend]:
    """Backends of an order, as they open. Raises BackendUnavailableError where none does."""
    failures = []
    for name in order:
        try:
            backend = open_named(name)
        except BackendUnavailableError as error:
            failures.append(str(error))
            level = logging.INFO if installed_module(name) is None else logging.WARNING
            logger.log(level, "backend auto: not %s: %s", name, error)
            continue
        logger.info("backend auto: %s opens; %s is the order on %s, %s", name, ", ".join(order), cpu().model, reason)
        yield backend
    if len(failures) == len(order):
        raise BackendUnavailableError(f"no inference engine opens here: {'; '.join(failures)}")


def open_named(name: str) -> Backend:
    """Open one backend by its name. Raises as `open_backend`; the error is about that backend alone."""
    if name not in BACKENDS:
        raise OptionError(f"unknown backend {name!r}, expected one of {['auto', *BACKENDS]}")
    module = installed_module(name)
    if module is None:
        raise BackendUnavailableError(f"backend {name!r} is not installed; {BACKENDS[name].install}")
    try:
        return _constructed(name)
    except T2DError:
        raise
    except (ImportError, AttributeError, OSError, RuntimeError) as error:  # another version, or missing files
        spec = importlib.util.find_spec(module)
        raise BackendUnavailableError(
            f"backend {name!r} is installed, but {spec.origin if spec else module} does not load: {error}; "
            f"to repair it, uninstall it, then {BACKENDS[name].install}"
        ) from error


def _constructed(name: str) -> Backend:
    module, _, kind = BACKENDS[name].home.partition(":")
    backend: Backend = getattr(importlib.import_module(module), kind)(name)
    return backend
