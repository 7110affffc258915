"""Proof on the target: an engine is used after it has passed the bundle's self-test on this machine.

A verdict is remembered in the user's cache by engine, version, device, driver, precision, and the bundle's files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np

from t2d_runtime import __version__
from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.known_wrong import reports_on
from t2d_runtime.bundle import ENCODERS, SEGMENTER, SELFTEST, Bundle
from t2d_runtime.cache import digest_of, recall, remember
from t2d_runtime.errors import BackendError, SelfTestError
from t2d_runtime.manifest import StageParity

if TYPE_CHECKING:
    from t2d_runtime.fused import FusedSegmenter
    from t2d_runtime.segmenter import Segmenter

logger = logging.getLogger(__name__)

VERDICTS = "verdicts"
CHOICES = "fastest"

TIMED_RUNS = 3


def require_proven(segmenter: Segmenter, backend: Backend) -> None:
    """Run the self-test of an engine that is seen for the first time here.

    Raises SelfTestError, naming the stage, where it does not give the reference's outputs; that is not remembered.
    """
    from t2d_runtime.selftest import run_selftest

    _require(segmenter.bundle, backend, segmenter.precision, ENCODERS, lambda: run_selftest(segmenter, masks=False))


def require_fused_proven(segmenter: FusedSegmenter, backend: Backend) -> None:
    """As `require_proven`, for the fused graph."""
    _require(segmenter.bundle, backend, segmenter.precision, (SEGMENTER,), lambda: tuple(segmenter.selftest()))


def _require(
    bundle: Bundle,
    backend: Backend,
    precision: str,
    graphs: Sequence[str],
    selftest: Callable[[], tuple[StageParity, ...]],
) -> None:
    identity = backend.identity
    key = _key(bundle, backend, precision, graphs)
    if recall(VERDICTS, key) is not None:
        return
    from t2d_runtime.selftest import require_parity

    logger.info("self-test of %s in %s, the first on this machine", identity, precision)
    reports = reports_on(identity, precision)
    for report in reports:
        logger.warning("reported: %s", report)
    require_parity(selftest(), "; ".join([f"{identity} in {precision}", *map(str, reports)]))
    remember(VERDICTS, key, {"engine": str(identity), "precision": precision})


def fastest_precision(bundle: Bundle, backends: Sequence[Backend], num_threads: int | None) -> tuple[Backend, str]:
    """The backend and precision with the shortest image encoding among those that pass their self-test here.

    Measured at the first call, one after the other, and remembered.
    Raises SelfTestError where none passes.
    """
    pairs = [(backend, precision) for backend in backends for precision in backend.precisions(bundle)]
    key = digest_of(num_threads, [_key(bundle, *pair) for pair in pairs])
    chosen = recall(CHOICES, key)
    if chosen is None:
        times = {f"{b.name} {p}": _passing_ms(bundle, b, p, num_threads) for b, p in pairs}
        passed = {name: value for name, value in times.items() if value is not None}
        if not passed:
            raise SelfTestError(f"no precision passes its self-test here: tried {', '.join(times)}; see 't2d doctor'")
        chosen = {"fastest": min(passed, key=passed.__getitem__), "image_encoder_ms": times}
        remember(CHOICES, key, chosen)
    logger.info("precision fast: %s of %s", chosen["fastest"], chosen["image_encoder_ms"])
    return next(pair for pair in pairs if f"{pair[0].name} {pair[1]}" == chosen["fastest"])


def _passing_ms(bundle: Bundle, backend: Backend, precision: str, num_threads: int | None) -> float | None:
    """Time in ms to encode one window; None where the engine fails or does not pass its self-test."""
    from t2d_runtime.segmenter import Segmenter

    try:
        segmenter = Segmenter(bundle, backend, precision=precision, num_threads=num_threads)
        require_proven(segmenter, backend)
        return _image_encoder_ms(segmenter)
    except (SelfTestError, BackendError) as error:
        logger.warning("left out: %s", error)
        return None


def _image_encoder_ms(segmenter: Segmenter) -> float:
    """Shortest of a few runs on one window."""
    window = np.zeros((1, *segmenter.manifest.windows.crop_size, 3), np.uint8)
    times = []
    for _ in range(1 + TIMED_RUNS):
        start = time.perf_counter()
        segmenter.run_image_encoder(window)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times[1:])


def _key(bundle: Bundle, backend: Backend, precision: str, graphs: Sequence[str] = ENCODERS) -> str:
    digests = (*backend.digests(bundle, precision, graphs), bundle.manifest.files[SELFTEST].sha256)
    return digest_of(__version__, backend.name, astuple(backend.identity), precision, digests)
