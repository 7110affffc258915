"""Proof on the target: an engine is used only after it has passed the bundle's self-test on this machine.

A verdict is kept in the user's cache by engine, version, device, driver, precision and the bundle's manifest. Files
that were left off are tested when they are added.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple

from t2d_runtime import __version__
from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.known_wrong import reports_on
from t2d_runtime.bundle.files import ENCODERS, TEXT_ENCODER, Bundle
from t2d_runtime.bundle.manifest import StageParity
from t2d_runtime.encoders import Encoders
from t2d_runtime.storage.cache import digest_of, recall, remember

logger = logging.getLogger(__name__)

VERDICTS = "verdicts"


def require_proven(encoders: Encoders) -> None:
    """Run the self-test of an engine that is new on this machine, and release the text encoder if that loaded it.

    Raises SelfTestError, which names the stage, where the outputs are not the reference's. Failures are not remembered.
    """

    def selftest() -> tuple[StageParity, ...]:
        from t2d_runtime.proof.selftest import run_selftest

        was_loaded = encoders.has_text_encoder
        stages = run_selftest(encoders, masks=False)
        if not was_loaded:
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
    key = proof_key(bundle, backend, precision, graphs)
    if recall(VERDICTS, key) is not None:
        return
    from t2d_runtime.proof.selftest import require_parity

    logger.info("self-test of %s in %s, the first on this machine", identity, precision)
    reports = reports_on(identity, precision)
    for report in reports:
        logger.warning("reported: %s", report)
    require_parity(tuple(selftest()), "; ".join([f"{identity} in {precision}", *map(str, reports)]))
    remember(VERDICTS, key, {"engine": str(identity), "precision": precision})


def is_proven(bundle: Bundle, backend: Backend, precision: str) -> bool:
    """True where the self-test of both encoders has passed on this machine, and is remembered."""
    return recall(VERDICTS, proof_key(bundle, backend, precision)) is not None


def proof_key(bundle: Bundle, backend: Backend, precision: str, graphs: Sequence[str] = ENCODERS) -> str:
    """The key of a verdict: everything that decides an engine's results, and so its files too."""
    digests = (*backend.digests(bundle, precision, graphs), bundle.manifest.digest)
    left_off = bundle.left_off if TEXT_ENCODER in graphs else ()
    return digest_of(__version__, backend.name, astuple(backend.identity), precision, digests, left_off)
