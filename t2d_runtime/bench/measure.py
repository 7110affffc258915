"""Speed of a bundle on this machine: stages, whole images, words, starts of a program, and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from t2d_runtime.bench.stages import batch_per_second, refined_phrases, stages_of
from t2d_runtime.bundle.files import SELFTEST, Bundle
from t2d_runtime.bundle.from_hub import local_bundle
from t2d_runtime.device.machine import MachineFacts, machine_facts
from t2d_runtime.device.timing import Timing, in_turn
from t2d_runtime.errors import BackendError, BundleNotFoundError, DataError, OptionError
from t2d_runtime.image.windows import WindowMode, size_of
from t2d_runtime.opening import Postprocess
from t2d_runtime.proof.selftest import SelfTestVectors
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.storage.cache import VARIABLE
from t2d_runtime.storage.reading import read_text_file
from t2d_runtime.storage.strict_json import parse_json
from t2d_runtime.storage.whole_file import whole_file
from t2d_runtime.words.class_list import ClassList, checked_classes
from t2d_runtime.words.vocabulary import ClassEmbeddings

WARM_UP = 2
"""Rounds that do not count. In the first, engines reserve memory and compiled loops are read from disk."""


@dataclass(frozen=True)
class BenchSettings:
    """Settings of a measurement."""

    bundle: Path | str
    image: Path | None = None
    """None takes the self-test's picture, which every bundle carries."""
    classes: ClassList | None = None
    """None takes the self-test's words, where there is no vocabulary either."""
    vocabulary: Path | None = None
    """File of encoded words; the stages that encode words are then left out."""
    window: WindowMode = "slide"
    postprocess: Postprocess = "host"
    backend: str = "auto"
    precision: str = "fp32"
    num_threads: int | None = None
    rounds: int = 20
    starts: int = 3
    """Programs started to time a start."""


@dataclass(frozen=True)
class StageTime:
    """Percentiles of one stage's time over the rounds, and calls a second."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_second: float

    @classmethod
    def of(cls, timing: Timing) -> StageTime:
        """The figures of a timing."""
        return cls(timing.median_ms, timing.percentile_ms(95), timing.percentile_ms(99), timing.per_second)


@dataclass(frozen=True)
class StartTime:
    """A new process from its start to its first mask, PAMR included."""

    whole_ms: float
    """Measured from outside, with the interpreter's own start."""
    import_ms: float
    open_ms: float
    """Loading the bundle and its image encoder, and where words are encoded the text encoder beside it."""
    words_ms: float
    """Encoding the words, or reading the vocabulary."""
    mask_ms: float
    peak_bytes: int | None
    """Peak memory of the process; None where the system does not count it."""


@dataclass(frozen=True)
class BenchFigures:
    """One bundle on one engine; sizes are (height, width)."""

    backbone: str
    model_digest: str
    input_size: tuple[int, int]
    backend: str
    engine: str
    precision: str
    threads: int | None
    """None: the engine's own choice."""
    image_size: tuple[int, int]
    windows: int
    classes: int
    refined_classes: int
    """Phrases that PAMR refines; the others can win nowhere in the image."""
    rounds: int
    stages: Mapping[str, StageTime]
    first_start: StartTime
    """The first start on a machine: models are compiled and the engine runs its self-test."""
    start: StartTime
    """A later start: the median of several by their whole time."""
    phrases: int | None = None
    """Phrases of all classes and negatives, where they are more than the classes."""
    window: WindowMode = "slide"
    postprocess: Postprocess = "host"
    batch_per_second: float | None = None
    """Images a second of `segment_batch`, without PAMR; None in files of earlier versions."""


@dataclass(frozen=True)
class BenchResult:
    """The content of the file that `t2d bench --json` writes."""

    command: Literal["bench"]
    provenance: MachineFacts
    figures: BenchFigures

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all. Raises OutputError."""
        with whole_file(path) as file:
            file.write((json.dumps(asdict(self), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> BenchResult:
        """Read what `save` wrote. Raises DataError for anything else."""
        expected = "a file that 't2d bench --json' wrote"
        text = read_text_file(path, expected, DataError)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not JSON ({error}); expected {expected}") from error
        return parse_json(cls, content, str(path), DataError)


def measure(settings: BenchSettings) -> BenchResult:
    """Run all measurements. Raises OptionError, and the errors of `Segmenter.open` and `load_image`."""
    if settings.rounds < 1 or settings.starts < 1:
        raise OptionError(f"rounds is {settings.rounds} and starts {settings.starts}, expected at least 1 of each")
    opening: dict[str, Any] = {
        "bundle": str(settings.bundle),
        "backend": settings.backend,
        "precision": settings.precision,
        "num_threads": settings.num_threads,
        "postprocess": settings.postprocess,
    }
    vocabulary = None if settings.vocabulary is None else ClassEmbeddings.load(settings.vocabulary)
    with _picture(settings) as (image, words):
        segmenter = Segmenter.open(**opening)
        classes = vocabulary or _encoded(segmenter, words)
        listed, window = words if vocabulary is None else None, settings.window
        stages = stages_of(segmenter, image, listed, classes=classes, window=window, num_threads=settings.num_threads)
        timings = in_turn(stages, settings.rounds, WARM_UP)
        per_second = batch_per_second(segmenter, image, classes, window, settings.rounds)
        encoding = segmenter.encode_image(image, window)
        # The choices of "auto" and "fast", so that the started program uses the same.
        opening |= {"backend": segmenter.backend_name, "precision": segmenter.precision}
        opening["load_text_encoder"] = listed is not None
        encoded = {"vocabulary": str(settings.vocabulary)}
        job = {"image": str(image), "words": encoded if listed is None else _arguments(listed), "window": window}
        first, later = measure_starts({"open": opening, **job, "refine": True}, settings.starts)
    model, mask_settings = segmenter.manifest.model, segmenter.check_options(classes, background=True, window=window)
    figures = BenchFigures(
        backbone=model.backbone,
        model_digest=segmenter.model_digest,
        input_size=model.input_size,
        backend=segmenter.backend_name,
        engine=segmenter.engine_description,
        precision=segmenter.precision,
        threads=settings.num_threads,
        image_size=size_of(encoding.image),
        windows=len(encoding.windows),
        classes=len(classes.names),
        refined_classes=refined_phrases(encoding, classes, mask_settings),
        rounds=settings.rounds,
        stages={name: StageTime.of(timing) for name, timing in timings.items()},
        first_start=first,
        start=later,
        phrases=None if classes.phrases is None else len(classes.vectors),
        window=window,
        postprocess=segmenter.postprocess,
        batch_per_second=per_second,
    )
    return BenchResult("bench", machine_facts(), figures)


@contextmanager
def _picture(settings: BenchSettings) -> Iterator[tuple[Path, ClassList]]:
    """The image file and the words. The self-test's picture is written to a file, to be decoded like any other."""
    if settings.image is not None and settings.classes is not None:
        yield settings.image, settings.classes
        return
    from PIL import Image

    vectors = SelfTestVectors.load(Bundle.open(local_bundle(settings.bundle, [settings.precision])).file(SELFTEST))
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "selftest.png"
        Image.fromarray(vectors.image).save(stored)
        yield settings.image or stored, settings.classes or checked_classes(vectors.class_names)


def _encoded(segmenter: Segmenter, words: ClassList) -> ClassEmbeddings:
    try:
        return segmenter.encode_classes(words)
    except BundleNotFoundError as error:
        raise BundleNotFoundError(f"{error}; 't2d bench --vocabulary F' measures without it") from error


def _arguments(words: ClassList) -> dict[str, Any]:
    """The arguments of `Segmenter.encode_classes` for a class list, as JSON takes them."""
    return {"classes": dict(words.phrases), "negatives": words.negatives, "thresholds": dict(words.thresholds)}


def measure_starts(job: Mapping[str, Any], count: int) -> tuple[StartTime, StartTime]:
    """A start with an empty cache, as on a new machine, and the median of `count` later ones.

    `job` as `t2d_runtime.bench.first_mask` takes it.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, VARIABLE: cache}
        first = time_start(job, environment)
        later = [time_start(job, environment) for _ in range(count)]
    return first, sorted(later, key=lambda start: start.whole_ms)[count // 2]


def time_start(job: Mapping[str, Any], environment: Mapping[str, str]) -> StartTime:
    """Start a program that makes one mask (see `t2d_runtime.bench.first_mask`). Raises BackendError where it fails."""
    command = [sys.executable, "-m", "t2d_runtime.bench.first_mask", json.dumps(job)]
    start = time.perf_counter()
    # Its messages go to a file: a pipe that nobody reads meanwhile could fill and stop it.
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        line = process.stdout.readline() if process.stdout else ""
        whole_ms = (time.perf_counter() - start) * 1e3
        process.wait()
        log.seek(0)
        errors = log.read()
    if process.returncode != 0:
        reason = (errors.strip().splitlines() or ["no message"])[-1]
        raise BackendError(f"a new process did not reach its first mask: {reason}; see 't2d selftest'")
    return StartTime(whole_ms=whole_ms, **json.loads(line))
