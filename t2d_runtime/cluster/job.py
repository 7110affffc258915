"""A whole run: what is missing in the dataset, the cluster, the words, the pictures, and what came of it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from t2d_runtime.bundle.manifest import Manifest
from t2d_runtime.cluster.dataset import (
    Content,
    check_settings,
    parts_of_output,
    prepare_output,
    read_content,
    remove_failed_parts,
    remove_unfinished,
)
from t2d_runtime.cluster.inputs import Inputs
from t2d_runtime.cluster.placement import ON_GPU, Placement, nodes_of_cluster, place_workers
from t2d_runtime.cluster.places import Place
from t2d_runtime.cluster.plan import ROWS_PER_FILE, Plan, holds, plan_units, usual_rows_per_file
from t2d_runtime.cluster.run import Outcome, Progress, prepare_on_cluster, run_all
from t2d_runtime.cluster.session import ray_session
from t2d_runtime.cluster.worker import Engine, Task
from t2d_runtime.errors import ClusterError, OptionError, OutputError, T2DError
from t2d_runtime.opening import FAST, Postprocess
from t2d_runtime.proof.choice import AUTO
from t2d_runtime.results.options import SegmentOptions, resolve_options
from t2d_runtime.storage.own_files import GENERATOR
from t2d_runtime.words.class_list import ClassList
from t2d_runtime.words.vocabulary import ClassEmbeddings


@dataclass(frozen=True)
class Job:
    """Everything that a command line asks for."""

    bundle: str
    manifest: Manifest
    words: ClassList | ClassEmbeddings
    templates: tuple[str, ...]
    """Templates of the prompts; empty for a vocabulary."""
    options: SegmentOptions
    inputs: Inputs
    output: Place
    backend: str = AUTO
    precision: str = "fp32"
    postprocess: Postprocess = "host"
    address: str | None = None
    workers: int | None = None
    threads: int | None = None
    rows_per_file: int | None = None
    retry_failed: bool = False


@dataclass(frozen=True)
class Summary:
    """The state of the inputs after a run."""

    done: int
    """Pictures that the dataset has, failed ones included."""
    failed: int
    before: int
    """Pictures that were done before this run."""
    fault: T2DError | None = None
    """The reason why some of the inputs are not done."""
    warnings: Sequence[str] = ()


def run_job(job: Job, progress: Progress) -> Summary:
    """Segment what the dataset lacks.

    Raises OptionError for settings that the dataset was not made with, OutputError for a folder that is no dataset,
    ClusterError, and the errors of `Segmenter.open` and of its options.
    """
    for option, value in (
        ("--workers", job.workers),
        ("--threads", job.threads),
        ("--rows-per-file", job.rows_per_file),
    ):
        if value is not None and value < 1:
            raise OptionError(f"{option} is {value}, expected a whole number from 1")
    content = read_content(job.output, prepare_output(job.output, create=False))
    made = content.settings
    if made is not None:  # the dataset goes on with the engine that it was begun with
        job = replace(
            job,
            backend=made["backend"] if job.backend == AUTO else job.backend,
            precision=made["precision"] if job.precision == FAST else job.precision,
        )
        check_settings(job.output, made, _settings(job, job.backend, job.precision))
    else:
        _settings(job, job.backend, job.precision)  # options out of their ranges are told before Ray is started
    warnings = [f"{content.twice} pictures are in two parts of {job.output}"] if content.twice else []
    if job.retry_failed and content.with_failures:
        kept = remove_failed_parts(job.output, content, holds(job.inputs))
        content = read_content(job.output, prepare_output(job.output, create=False))
        if kept:
            warnings.append(f"{kept} parts with failed pictures stay, since they also hold pictures of other inputs")
    plan = plan_units(job.inputs, content, ROWS_PER_FILE)
    if not plan.units:
        return Summary(plan.done, plan.failed, plan.done, warnings=warnings)
    try:
        with ray_session(job.address):
            plan, outcome = _on_cluster(job, content, progress)
    finally:
        if job.address is None:  # its workers have ended, some of them while they wrote
            with contextlib.suppress(OSError, OutputError):
                remove_unfinished(job.output)
    return _summary(job, content, plan, outcome, warnings)


def _on_cluster(job: Job, content: Content, progress: Progress) -> tuple[Plan, Outcome]:
    placement = place_workers(
        nodes_of_cluster(),
        on_gpu=job.backend in ON_GPU or job.postprocess == "device",
        workers=job.workers,
        threads=job.threads,
        growing=job.address is not None,
    )
    size = job.rows_per_file or (content.settings or {}).get("rows_per_file")
    size = size or usual_rows_per_file(job.inputs, placement.workers)
    plan = plan_units(job.inputs, content, size)
    engine = Engine(job.bundle, job.manifest.digest, job.backend, job.precision, placement.threads, job.postprocess)
    prepared = prepare_on_cluster(engine, job.words, job.templates, job.options, placement, progress)
    # The engine that was chosen there is every worker's, so that the whole dataset has one.
    backend, precision = prepared.settings.backend, prepared.settings.precision
    settings = {"generator": GENERATOR, **_settings(job, backend, precision), "rows_per_file": size}
    engine = replace(engine, backend=backend, precision=precision)
    task = Task(engine, prepared.classes, job.options, job.output, settings, size)
    prepare_output(job.output, create=True)
    progress.start(plan.pictures, _described(prepared.engine_description, placement))
    try:
        return plan, run_all(plan.units, task, placement, progress)
    finally:
        progress.stop()


def _described(engine: str, placement: Placement) -> str:
    threads = f"{placement.threads} CPU thread{'' if placement.threads == 1 else 's'}"
    gpus = f" and {placement.gpus:g} GPU" if placement.gpus else ""
    return f"{engine}; workers: {placement.workers}, with {threads}{gpus} each"


def _settings(job: Job, backend: str, precision: str) -> dict[str, Any]:
    """The settings that decide a dataset's rows. Raises OptionError for an option outside its range."""
    window = job.options.get("window") or "slide"
    resolved = resolve_options(job.options, job.manifest.defaults, window=window, backend=backend, precision=precision)
    options = asdict(resolved)
    for name in ("backend", "precision"):
        del options[name]
    if resolved.refine is not None:
        options["refine"]["dilations"] = list(resolved.refine.dilations)
    return {
        "bundle": job.manifest.digest,
        **_words(job),
        "options": options,
        "backend": backend,
        "precision": precision,
        "postprocess": job.postprocess,
    }


def _words(job: Job) -> Mapping[str, Any]:
    if isinstance(job.words, ClassList):
        classes = job.words
        return {
            "classes": {name: list(phrases) for name, phrases in classes.phrases.items()},
            "negatives": list(classes.negatives),
            "thresholds": dict(classes.thresholds),
            "prompts": list(job.templates),
        }
    embeddings = job.words
    return {
        "classes": list(embeddings.names),
        "negatives": list(embeddings.negatives),
        "thresholds": dict(embeddings.thresholds),
        "vocabulary": hashlib.sha256(embeddings.vectors.tobytes()).hexdigest(),
    }


def _summary(job: Job, content: Content, plan: Plan, outcome: Outcome, warnings: list[str]) -> Summary:
    """The state after a run, with what the output folder holds as this machine sees it."""
    done = sum(part.pictures for part in outcome.parts.values())
    failed = sum(part.failed for part in outcome.parts.values())
    fault = outcome.fault
    names = set(parts_of_output(job.output))
    unseen = set(outcome.parts) - names
    if unseen and fault is None:
        fault = ClusterError(
            f"{len(unseen)} parts are not in {job.output} as this machine sees it; with several machines --output is a "
            "folder that all of them share, or an address such as s3://bucket/folder"
        )
    foreign = names - content.parts - set(outcome.parts)
    if foreign:
        warnings = [
            *warnings,
            f"another run wrote {len(foreign)} parts to {job.output} at the same time; pictures may be in it twice",
        ]
    return Summary(plan.done + done, plan.failed + failed, plan.done, fault, warnings)
