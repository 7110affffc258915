"""Proof on the target: an engine is used only after it has passed the bundle's self-test on this machine.

A verdict is kept in the user's cache by engine, version, device, driver, precision and the bundle's manifest. Files
that were left off are tested when they are added.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime import __version__
from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.known_wrong import reports_on
from t2d_runtime.bundle.files import ENCODERS, TEXT_ENCODER, Bundle
from t2d_runtime.bundle.manifest import StageParity
from t2d_runtime.device.timing import in_turn
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BackendError, SelfTestError
from t2d_runtime.storage.cache import digest_of, recall, remember

logger = logging.getLogger(__name__)

VERDICTS = "verdicts"
CHOICES = "choices"

ROUNDS, MORE_ROUNDS = 3, 4
"""Rounds in which two engines are timed in turn. Three that agree are enough; otherwise seven decide."""


def require_proven(encoders: Encoders) -> None:
    """Run the self-test of an engine that is new on this machine, and release the text encoder again.

    Raises SelfTestError, which names the stage, where the outputs are not the reference's. Failures are not remembered.
    """

    def selftest() -> tuple[StageParity, ...]:
        from t2d_runtime.proof.selftest import run_selftest

        stages = run_selftest(encoders, masks=False)
        encoders.release_text_encoder()
        return stages

    require_passed(encoders.bundle, encoders.backend, encoders.precision, ENCODERS, selftest)


def require_passed(
    bundle: Bundle,
    backend: Backend,
    precision: str,
    graphs: Sequence[str],
    selftest: Callable[[], Iterable[StageParity]],
) -> None:
    """Run a self-test of some graphs unless it passed here before. Raises SelfTestError as `require_proven`."""
    identity = backend.identity
    key = _key(bundle, backend, precision, graphs)
    if recall(VERDICTS, key) is not None:
        return
    from t2d_runtime.proof.selftest import require_parity

    logger.info("self-test of %s in %s, the first on this machine", identity, precision)
    reports = reports_on(identity, precision)
    for report in reports:
        logger.warning("reported: %s", report)
    require_parity(tuple(selftest()), "; ".join([f"{identity} in {precision}", *map(str, reports)]))
    remember(VERDICTS, key, {"engine": str(identity), "precision": precision})


def fastest_precision(bundle: Bundle, backends: Sequence[Backend], num_threads: int | None) -> tuple[Backend, str]:
    """The backend and precision with the shortest image encoding among those that pass their self-test here.

    The first call measures, each candidate in turn with the best so far, and remembers the result.
    Raises SelfTestError where none passes.
    """
    pairs = {f"{backend.name} {p}": (backend, p) for backend in backends for p in backend.precisions(bundle)}
    key = digest_of(num_threads, [_key(bundle, *pair) for pair in pairs.values()])
    chosen = recall(CHOICES, key)
    if chosen is None:
        candidates = ((name, _proven(bundle, *pair, num_threads)) for name, pair in pairs.items())
        chosen = _fastest((name, encoders) for name, encoders in candidates if encoders is not None)
        if chosen is None:
            raise SelfTestError(f"no precision passes its self-test here: tried {', '.join(pairs)}; see 't2d doctor'")
        remember(CHOICES, key, chosen)
    logger.info("precision fast: %s; measured: %s", chosen["fastest"], "; ".join(chosen["measured"]) or "no other runs")
    return pairs[chosen["fastest"]]


def _proven(bundle: Bundle, backend: Backend, precision: str, num_threads: int | None) -> Encoders | None:
    """Encoders that passed their self-test; None where the engine fails or does not pass."""
    try:
        encoders = Encoders(bundle, backend, precision=precision, num_threads=num_threads)
        require_proven(encoders)
        return encoders
    except (SelfTestError, BackendError) as error:
        logger.warning("left out: %s", error)
        return None


def _fastest(candidates: Iterable[tuple[str, Encoders]]) -> dict[str, Any] | None:
    """The fastest candidate, and how much faster each winner was than the other. At most two are in memory."""
    best: tuple[str, Encoders] | None = None
    measured = []
    for candidate in candidates:
        if best is None:
            best = candidate
            continue
        faster = _times_as_fast(candidate, best)
        winner, loser = (candidate, best) if faster > 1 else (best, candidate)
        measured.append(f"{winner[0]} {max(faster, 1 / faster):.2f} times as fast as {loser[0]}")
        best = winner
    return None if best is None else {"fastest": best[0], "measured": measured}


def _times_as_fast(one: tuple[str, Encoders], other: tuple[str, Encoders]) -> float:
    """Speed of `one` over that of `other` in encoding a window: the median over rounds.

    In a round both run under the same load of the machine. Where rounds disagree on the faster one, more follow.
    """
    calls = {name: partial(encoders.run_image_encoder, _window(encoders)) for name, encoders in (one, other)}
    ratios: list[float] = []
    for rounds, warm_up in ((ROUNDS, 1), (MORE_ROUNDS, 0)):
        times = in_turn(calls, rounds, warm_up)
        ratios += [b / a for a, b in zip(times[one[0]].rounds_ms, times[other[0]].rounds_ms, strict=True)]
        if min(ratios) > 1 or max(ratios) < 1:
            break
    return statistics.median(ratios)


def _window(encoders: Encoders) -> NDArray[np.uint8]:
    return np.zeros((1, *encoders.manifest.windows.crop_size, 3), np.uint8)


def _key(bundle: Bundle, backend: Backend, precision: str, graphs: Sequence[str] = ENCODERS) -> str:
    digests = (*backend.digests(bundle, precision, graphs), bundle.manifest.digest)
    left_off = bundle.left_off if TEXT_ENCODER in graphs else ()
    return digest_of(__version__, backend.name, astuple(backend.identity), precision, digests, left_off)
