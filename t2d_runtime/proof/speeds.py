"""Speed of a bundle's image encoder in every engine and precision here: measured in turn, and remembered."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from t2d_runtime import __version__
from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.names import engine_version
from t2d_runtime.bundle.files import IMAGE_ENCODER, Bundle
from t2d_runtime.device.cpu import cpu_name
from t2d_runtime.device.threads import available_cores
from t2d_runtime.device.timing import Timing, in_turn
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BackendError, DataError, SelfTestError
from t2d_runtime.proof.parity import PRECISIONS
from t2d_runtime.proof.verdicts import require_proven
from t2d_runtime.storage.cache import digest_of, file_of, recall, remember
from t2d_runtime.storage.strict_json import parse_json

logger = logging.getLogger(__name__)

SPEEDS = "speeds"
"""Folder of the cache."""

ROUNDS, MORE_ROUNDS = 3, 4
"""Rounds in which two engines are timed in turn. Three that agree are enough; otherwise seven decide."""

PAIR_SECONDS = 10.0
"""Most seconds in which a thorough measurement times an engine in one precision, once it has proved itself."""

FEWEST_ROUNDS, MOST_ROUNDS = 2, 21
"""Rounds of a thorough measurement, as many as fit into PAIR_SECONDS."""

GAIN = 1.05
"""Gain above which a measured engine replaces the rule's. Below it, noise would decide from machine to machine."""

LEFT_OUT = "left out"
"""Beginning of the outcome of a pair that fails here."""

Calls = Mapping[str, Callable[[], object]]
Report = Callable[[str, str], None]
"""Called with a pair's name and its outcome, as it is known."""


@dataclass(frozen=True)
class Speeds:
    """Times of one image encoder on one processor. A pair's name is "backend precision"."""

    date: str
    processor: str
    threads: int
    versions: Mapping[str, str]
    """Versions of this package and of the engines."""
    window_ms: Mapping[str, float]
    """Pair -> milliseconds to encode a window, the fastest first. Their ratios were measured in turn."""
    left_out: Mapping[str, str]
    """Pair that fails here -> the reason."""

    def of(self, precision: str) -> dict[str, float]:
        """Backend -> milliseconds in a precision, the fastest first."""
        pairs = ((name.split(), ms) for name, ms in self.window_ms.items())
        return {backend: ms for (backend, measured), ms in pairs if measured == precision}

    @property
    def ratios(self) -> str:
        """The fastest pair against every other, in words."""
        (first, least), *others = self.window_ms.items()
        return "; ".join(f"{first} {ms / least:.2f} times as fast as {name}" for name, ms in others)


@dataclass(frozen=True)
class Subject:
    """A measured bundle: its image encoder with a number of threads, on the backends that a name stands for."""

    bundle: Bundle
    asked: str
    """A backend's name, or "auto"."""
    backends: tuple[str, ...]
    num_threads: int | None

    @property
    def threads(self) -> int:
        """Threads that an engine takes."""
        return self.num_threads or available_cores()

    @property
    def key(self) -> str:
        """Key of the memory: the graphs' sha256, the processor and the threads."""
        bundle = self.bundle
        graphs = [bundle.graph_digests(name, (IMAGE_ENCODER,)) for name in bundle.graph_precisions(IMAGE_ENCODER)]
        return digest_of(self.asked, graphs, cpu_name(), self.threads)

    @property
    def file(self) -> Path | None:
        """The file that remembers the speeds; None without a cache folder."""
        return file_of(SPEEDS, self.key)

    def versions(self) -> dict[str, str]:
        """Versions on which the speeds depend. No engine is imported."""
        found = {name: engine_version(name) for name in self.backends}
        return {"t2d-runtime": __version__, **{name: version for name, version in found.items() if version}}


def remembered(subject: Subject) -> Speeds | None:
    """The speeds measured here before. Those that are damaged or of other versions are logged and ignored."""
    content = recall(SPEEDS, subject.key)
    if content is None:
        return None
    try:
        speeds = parse_json(Speeds, content, str(subject.file), DataError)
    except DataError as error:
        logger.warning("ignored: %s", error)
        return None
    now = subject.versions()
    changed = [
        f"{name} {speeds.versions.get(name, 'not installed')} then, {now.get(name, 'not installed')} now"
        for name in sorted(speeds.versions.keys() | now.keys())
        if speeds.versions.get(name) != now.get(name)
    ]
    if changed or not _usable(speeds):
        reason = "; ".join(changed) or "it is damaged"
        logger.warning("ignored: speeds measured on %s (%s): %s", speeds.date, subject.file, reason)
        return None
    return speeds


def _usable(speeds: Speeds) -> bool:
    """True where every time is one, and every name a pair's."""
    pairs = speeds.window_ms.items()
    return bool(pairs) and all(0 < ms < math.inf and len(name.split()) == 2 for name, ms in pairs)


def measure(
    subject: Subject, backends: Sequence[Backend], *, thorough: bool = False, report: Report | None = None
) -> Speeds:
    """Prove and time every pair, each in turn with the fastest so far, and remember the speeds.

    `backends` are in the rule's order. A pair that would replace the rule's of its precision is timed once more,
    against that one, and the smaller gain counts: a disturbance is seldom the same twice.
    `thorough`: up to PAIR_SECONDS for each pair, twice for one that is timed once more, instead of as few rounds as
    agree.
    Raises SelfTestError where no pair passes its self-test.
    """
    tell = report or _log
    pairs = _pairs(subject.bundle, backends)
    left_out: dict[str, str] = {}
    times: dict[str, float] = {}
    best: tuple[str, Encoders] | None = None
    usual: tuple[str, Encoders] | None = None  # the rule's pair of the precision
    for name, (backend, precision) in pairs.items():
        if usual is not None and pairs[usual[0]][1] != precision:
            usual = None
        try:
            one = name, _proven(subject, backend, precision)
        except (SelfTestError, BackendError) as error:
            left_out[name] = str(error)
            tell(name, f"{LEFT_OUT}: {error}")
            continue
        if best is None:
            times[name] = _median_ms(*one, ROUNDS if thorough else 1)
        else:
            times[name] = times[best[0]] / times_as_fast(one, best, thorough=thorough)
        usual = usual or one
        if times[usual[0]] / times[name] > GAIN:
            times[name] = max(times[name], times[usual[0]] / times_as_fast(one, usual, thorough=thorough))
        best = one if best is None or times[name] < times[best[0]] else best
        del one  # its memory is the next pair's
        tell(name, f"{times[name]:.4g} ms a window")
    if not times:
        raise SelfTestError(f"no precision passes its self-test here: tried {', '.join(pairs)}; see 't2d doctor'")
    ordered = {name: times[name] for name in sorted(times, key=times.__getitem__)}
    date = time.strftime("%Y-%m-%d", time.gmtime())
    speeds = Speeds(date, cpu_name(), subject.threads, subject.versions(), ordered, left_out)
    remember(SPEEDS, subject.key, asdict(speeds))
    return speeds


def _log(name: str, outcome: str) -> None:
    level = logging.WARNING if outcome.startswith(LEFT_OUT) else logging.INFO
    logger.log(level, "%s: %s", name, outcome)


def _pairs(bundle: Bundle, backends: Sequence[Backend]) -> dict[str, tuple[Backend, str]]:
    """Pairs that may run here, by name. Backends of one precision follow each other, and so are timed in turn."""
    runs = {backend.name: backend.precisions(bundle) for backend in backends}
    return {
        f"{backend.name} {precision}": (backend, precision)
        for precision in PRECISIONS
        for backend in backends
        if precision in runs[backend.name]
    }


def _proven(subject: Subject, backend: Backend, precision: str) -> Encoders:
    """Encoders that passed their self-test. Raises SelfTestError, BackendError."""
    encoders = Encoders(subject.bundle, backend, precision=precision, num_threads=subject.num_threads)
    require_proven(encoders)
    return encoders


def times_as_fast(one: tuple[str, Encoders], other: tuple[str, Encoders], *, thorough: bool = False) -> float:
    """Speed of `one` over that of `other` in encoding a window: the median over rounds.

    In a round both run under the same load of the machine. Where few rounds disagree on the faster one, more follow.
    """
    calls = {name: _encoding(encoders) for name, encoders in (one, other)}
    ratios: list[float] = []
    for times in _thorough_rounds(calls) if thorough else _quick_rounds(calls):
        ratios += [b / a for a, b in zip(times[one[0]].rounds_ms, times[other[0]].rounds_ms, strict=True)]
        if not thorough and (min(ratios) > 1 or max(ratios) < 1):
            break
    import statistics  # with fractions and decimals, which no other start needs

    return statistics.median(ratios)


def _quick_rounds(calls: Calls) -> Iterator[Mapping[str, Timing]]:
    yield in_turn(calls, ROUNDS, 1)
    yield in_turn(calls, MORE_ROUNDS, 0)


def _thorough_rounds(calls: Calls) -> Iterator[Mapping[str, Timing]]:
    """Rounds that fit into PAIR_SECONDS, by the time of the first, which counts for nothing else."""
    first = in_turn(calls, 1, 0)
    first_s = sum(timing.median_ms for timing in first.values()) / 1e3
    fitting = int(PAIR_SECONDS / first_s) - 1
    yield in_turn(calls, min(max(fitting, FEWEST_ROUNDS), MOST_ROUNDS), 0)


def _median_ms(name: str, encoders: Encoders, rounds: int) -> float:
    return in_turn({name: _encoding(encoders)}, rounds, 1)[name].median_ms


def _encoding(encoders: Encoders) -> Callable[[], object]:
    window = np.zeros((1, *encoders.manifest.windows.crop_size, 3), np.uint8)
    return partial(encoders.run_image_encoder, window)
