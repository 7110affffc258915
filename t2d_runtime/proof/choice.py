"""The engine that `auto` and `fast` take: as measured on this machine, else by a rule from the processor's features."""

from __future__ import annotations

import logging
from typing import NamedTuple

from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.names import installed_module
from t2d_runtime.backends.registry import RULE, auto_order, open_backend, open_candidates, open_first, open_named
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BackendError, BackendUnavailableError, OptionError, SelfTestError
from t2d_runtime.proof.speeds import GAIN, Speeds, Subject, measure, remembered
from t2d_runtime.proof.verdicts import is_proven, require_proven

logger = logging.getLogger(__name__)

AUTO = "auto"


class Order(NamedTuple):
    """The order in which `auto` tries backends."""

    names: tuple[str, ...]
    reason: str


def subject_of(bundle: Bundle, backend: str, num_threads: int | None) -> Subject:
    """The key under which a bundle's speeds are remembered: with "auto", on all CPU engines that are installed."""
    names = tuple(name for name in auto_order() if installed_module(name)) if backend == AUTO else (backend,)
    return Subject(bundle, backend, names, num_threads)


def open_for(bundle: Bundle, backend: str, precision: str, num_threads: int | None) -> Backend:
    """Open a backend by name; with "auto", the one that is fastest for this bundle here, as far as is known.

    Raises OptionError, BackendUnavailableError.
    """
    if backend != AUTO:
        return open_backend(backend)
    order = order_for(precision, remembered(subject_of(bundle, AUTO, num_threads)))
    return open_first(order.names, order.reason)


def order_for(precision: str, speeds: Speeds | None) -> Order:
    """The order of `auto` in a precision: the rule's, unless another engine was measured to gain more than GAIN."""
    rule = auto_order()
    times = {name: ms for name, ms in speeds.of(precision).items() if name in rule} if speeds else {}
    if speeds is None or not times:
        return Order(rule, RULE)
    usual, best = next(name for name in rule if name in times), min(times, key=times.__getitem__)
    first = best if times[usual] / times[best] > GAIN else usual
    figures = ", ".join(f"{name} {ms:.4g} ms a window" for name, ms in times.items())
    kept = "" if first == best else f"; the rule's choice stays without a gain above {GAIN - 1:.0%}"
    reason = f"as measured in {precision} on {speeds.date}: {figures}{kept}"
    return Order((first, *(name for name in rule if name != first)), reason)


def fastest_precision(bundle: Bundle, backend: str, num_threads: int | None) -> tuple[Backend, str]:
    """The backend and precision with the shortest image encoding among those that pass their self-test here.

    The first call measures, each candidate in turn with the best so far, and remembers the speeds.
    Raises SelfTestError where none passes, OptionError and BackendUnavailableError as `open_backend`.
    """
    subject = subject_of(bundle, backend, num_threads)
    speeds = remembered(subject)
    chosen = None if speeds is None else _fastest_proven(subject, speeds)
    if chosen is None:
        chosen = _fastest_proven(subject, measure(subject, open_candidates(backend)))
    if chosen is None:
        raise SelfTestError("no precision passes its self-test here; see 't2d doctor'")
    return chosen


def _fastest_proven(subject: Subject, speeds: Speeds) -> tuple[Backend, str] | None:
    """The fastest pair that also passes the self-test of this bundle, whose image encoder alone was timed."""
    for name in speeds.window_ms:
        backend, precision = name.split()
        try:
            opened = open_named(backend)
            if not is_proven(subject.bundle, opened, precision):
                require_proven(Encoders(subject.bundle, opened, precision=precision, num_threads=subject.num_threads))
        except (SelfTestError, BackendError, BackendUnavailableError, OptionError) as error:
            logger.warning("left out: %s", error)
            continue
        logger.info("precision fast: %s; measured on %s: %s", name, speeds.date, speeds.ratios or "no other runs")
        return opened, precision
    return None
