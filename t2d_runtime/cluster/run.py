"""Runs a plan's units on the workers of a Ray cluster, with Ray Data."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from t2d_runtime import __version__
from t2d_runtime.cluster.dataset import write_part
from t2d_runtime.cluster.images import Shard, Unit
from t2d_runtime.cluster.placement import Placement
from t2d_runtime.cluster.plan import alone, only_picture
from t2d_runtime.cluster.worker import (
    MOST_ATTEMPTS,
    Attempts,
    Engine,
    Prepared,
    Report,
    Task,
    Worker,
    Written,
    failed_row,
    prepare,
)
from t2d_runtime.errors import ClusterError, T2DError
from t2d_runtime.results.options import SegmentOptions
from t2d_runtime.words.class_list import ClassList
from t2d_runtime.words.vocabulary import ClassEmbeddings

logger = logging.getLogger(__name__)

TASKS = 10_000
"""Most tasks of a run. Each is a block of units in Ray's memory, some milliseconds of the driver's time."""

MOST_LOST = 16
"""Lost units after which a run ends: it is then the machine that fails, not a picture."""

PATIENCE_S = 30
"""Seconds after which the command says that it waits for a place on the cluster."""


class Progress(Protocol):
    """Receives what a run reports."""

    def wait(self, what: str) -> None:
        """Called where the cluster has no place yet."""

    def start(self, pictures: int | None, engine: str) -> None:
        """Called before the first picture, with their number where it is known."""

    def advance(self, written: Written) -> None:
        """Called when a part is written."""

    def stop(self) -> None:
        """Called after the last picture."""


@dataclass
class Outcome:
    """Result of a run."""

    parts: dict[str, Written] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    """Numbers of the units that were done to their end."""
    fault: T2DError | None = None
    """The error that ended the run: an engine that does not open, a dataset that cannot be written."""


def prepare_on_cluster(
    engine: Engine,
    words: ClassList | ClassEmbeddings,
    templates: tuple[str, ...],
    options: SegmentOptions,
    placement: Placement,
    progress: Progress,
) -> Prepared:
    """Encode the words on a machine of the cluster, with the engine that its workers will have.

    Raises ClusterError for a machine with another version of this program, and the errors of `Segmenter`.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    remote = ray.remote(num_cpus=placement.threads, num_gpus=placement.gpus)(prepare)
    reference = remote.remote(engine, words, templates, options)
    try:
        if not ray.wait([reference], timeout=PATIENCE_S)[0]:
            progress.wait(f"{placement.threads} CPUs{f' and {placement.gpus:g} GPU' if placement.gpus else ''}")
        prepared: Prepared = ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, T2DError):
            raise error.cause from None
        raise ClusterError(f"a machine of the cluster: {_reason(error)}") from error
    except RayError as error:
        raise ClusterError(f"the words were not encoded: {_reason(error)}") from error
    if prepared.version != __version__:
        raise ClusterError(
            f"a machine of the cluster has t2d-runtime {prepared.version}, this one {__version__}; install the same"
        )
    return prepared


def run_all(units: Sequence[Unit], task: Task, placement: Placement, progress: Progress) -> Outcome:
    """Segment units of pictures with one worker for each device; each writes its own parts of the dataset.

    Where a worker's process ended again and again during a unit, as it does when memory is short, each of its pictures
    is tried alone. One that still ends its worker becomes a row with that error.
    """
    outcome = _run(units, task, placement, progress)
    lost = [unit for number, unit in enumerate(units) if number not in outcome.ended]
    if not lost or outcome.fault is not None:
        return outcome
    if len(lost) > MOST_LOST:
        return replace(outcome, fault=_exhausted(f"{len(lost)} units of pictures"))
    single = [one for unit in lost for one in alone(unit)]
    again = _run(single, task, placement, progress)
    outcome = Outcome(outcome.parts | again.parts, outcome.ended, again.fault)
    for number, unit in enumerate(single):
        if number in again.ended or outcome.fault is not None:
            continue
        path = only_picture(unit)
        if path is None:
            outcome.fault = _exhausted(str(unit.place) if isinstance(unit, Shard) else "a unit")
        else:
            row = failed_row(path, _exhausted(path))
            part = write_part(task.output, [row], task.settings)
            outcome.parts[part] = Written(part, 1, 1, ((path, str(row["error"])),))
            progress.advance(outcome.parts[part])
    return outcome


def _exhausted(what: str) -> ClusterError:
    return ClusterError(
        f"{what}: the worker's process ended {MOST_ATTEMPTS} times; perhaps its machine has too little memory"
    )


def _run(units: Sequence[Unit], task: Task, placement: Placement, progress: Progress) -> Outcome:
    from ray.exceptions import RayError

    outcome = Outcome()
    reports = _reports(units, task, placement)
    try:
        for number, report in reports:
            if isinstance(report, Written):
                if report.part not in outcome.parts:
                    progress.advance(report)
                outcome.parts[report.part] = report
            elif report is None:
                outcome.ended.add(number)
            elif isinstance(report, T2DError):
                return replace(outcome, fault=report)
    except RayError as error:
        logger.info("where it happened:", exc_info=True)
        outcome.fault = ClusterError(f"the cluster has failed: {_reason(error)}; run the same command again")
    finally:
        reports.close()
    return outcome


@dataclass(frozen=True)
class _Begin:
    """Counts that a unit is begun, from any process of the cluster."""

    attempts: Any
    """Ray's handle of `Attempts`."""

    def __call__(self, unit: int) -> int:
        import ray

        count: int = ray.get(self.attempts.begin.remote(unit))
        return count


def _reports(units: Sequence[Unit], task: Task, placement: Placement) -> Generator[tuple[int, Report], None, None]:
    """Numbers of units and the reports about them, as they come."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # each report is a block of its own, so that it comes at once
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    packed = [{"number": number, "unit": pickle.dumps(unit)} for number, unit in enumerate(units)]
    blocks = ray.data.from_items(packed, override_num_blocks=min(len(packed), TASKS))
    reports = blocks.map_batches(
        Worker,
        fn_constructor_args=(task, _Begin(attempts)),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=min(placement.workers, len(packed))),
        num_cpus=placement.threads,
        num_gpus=placement.gpus,
    )
    for batch in reports.iter_batches(batch_size=None, prefetch_batches=0):
        yield from ((int(number), pickle.loads(report)) for number, report in zip(*batch.values(), strict=True))


def _reason(error: BaseException) -> str:
    """The reason in an error of Ray, without the tracebacks and the advice around it."""
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None:
        error = inner
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
