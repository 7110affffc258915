"""`t2d cluster`: label many pictures on a Ray cluster, into a Parquet dataset."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2d_runtime.commands.arguments import (
    add_bundle,
    add_engine_options,
    add_postprocess,
    add_prompts,
    add_words,
)
from t2d_runtime.commands.mask_options import add_background, add_mask_options, check_mask_options, mask_options
from t2d_runtime.commands.opening import named_classes
from t2d_runtime.commands.running import SOME_FAILED, status_of_batch
from t2d_runtime.commands.terminal import complain, say
from t2d_runtime.errors import ImageError, OptionError

if TYPE_CHECKING:
    from t2d_runtime.cluster.job import Job, Summary
    from t2d_runtime.cluster.worker import Written

RATED_PARTS = 4
"""Parts of a run from which a rate is told."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    inputs = (
        "folders, patterns such as 's3://bucket/**/*.jpg', lists of paths (.txt), WebDataset shards (.tar), Parquet "
        "files, pictures; on this machine or in a store"
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="Parquet dataset, new or begun by an earlier run"
    )
    parser.add_argument("--recursive", action="store_true", help="also search subfolders")
    column = (
        "Parquet column of pictures or paths, or a shard's suffix of pictures; default: image, bytes, content or path"
    )
    parser.add_argument("--column", metavar="C", help=column)
    add_words(parser, vocabulary=True)
    add_prompts(parser)
    add_background(parser)
    add_mask_options(parser)
    _add_cluster_options(parser)
    add_engine_options(parser)
    add_postprocess(parser)


def _add_cluster_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        metavar="A",
        help="a running Ray cluster, HOST:PORT or auto; default: RAY_ADDRESS, else one started on this machine",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="engines at work; default: one for each machine, or for each GPU"
    )
    parser.add_argument(
        "--rows-per-file",
        type=int,
        metavar="N",
        help="pictures of each Parquet file; default: 100, fewer for few pictures",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="do the pictures again that failed in an earlier run"
    )


def run(args: argparse.Namespace) -> int:
    """Segment what the dataset lacks; the status is 1 where some pictures failed, 2 where all did."""
    from t2d_runtime.cluster.session import check_address, require_ray

    check_mask_options(args)
    if args.address is None:
        args.address = os.environ.get("RAY_ADDRESS") or None  # set where Ray itself runs the command
    check_address(args.address)
    require_ray()
    from t2d_runtime.cluster.job import run_job

    job = _job(args)
    if job.inputs.left_out_line():
        say(job.inputs.left_out_line())
    start = time.perf_counter()
    progress = Progress()
    summary = run_job(job, progress)
    return _tell(summary, job, progress, start)


def _job(args: argparse.Namespace) -> Job:
    from t2d_runtime.bundle.files import Bundle
    from t2d_runtime.bundle.from_hub import local_bundle
    from t2d_runtime.cluster.inputs import find_inputs
    from t2d_runtime.cluster.job import Job
    from t2d_runtime.cluster.places import place_of

    if not args.output:
        raise OptionError("--output is empty; expected a folder, or an address such as s3://bucket/folder")
    manifest = Bundle.open(local_bundle(args.bundle, [])).manifest
    words, templates = named_classes(args, manifest)
    return Job(
        bundle=str(args.bundle.absolute()) if isinstance(args.bundle, Path) else args.bundle,
        manifest=manifest,
        words=words,
        templates=templates,
        options=mask_options(args, manifest),
        inputs=find_inputs(args.inputs, recursive=args.recursive, column=args.column),
        output=place_of(args.output),
        backend=args.backend,
        precision=args.precision,
        postprocess=args.postprocess,
        address=args.address,
        workers=args.workers,
        threads=args.threads,
        rows_per_file=args.rows_per_file,
        retry_failed=args.retry_failed,
    )


class Progress:
    """A progress bar over the pictures, and a line for each of the first that fail."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._told = 0
        self.pictures = 0
        self._first: tuple[float, int] | None = None
        self._last = 0.0

    def wait(self, what: str) -> None:
        """Say that the cluster has no place yet."""
        say(f"waiting for {what} on the cluster")

    def start(self, pictures: int | None, engine: str) -> None:
        """Open the bar."""
        from tqdm import tqdm

        say(engine)
        self._bar = tqdm(total=pictures, unit="picture", disable=None, leave=False)

    def advance(self, written: Written) -> None:
        """Move the bar by a part's pictures, and tell the first failures; all are in the dataset."""
        from t2d_runtime.cluster.worker import FAILURES_TOLD

        self.pictures += written.pictures
        self._last = time.perf_counter()
        self._first = self._first or (self._last, self.pictures)
        self._bar.update(written.pictures)
        for path, error in written.failures:
            self._told += 1
            if self._told <= FAILURES_TOLD:
                complain(f"{path} failed: {error}")

    def stop(self) -> None:
        """Close the bar."""
        self._bar.close()

    @property
    def rate(self) -> float | None:
        """Pictures a second after the first part, so without the start of the cluster; None where they are few."""
        if self._first is None or self.pictures < RATED_PARTS * self._first[1]:
            return None
        return (self.pictures - self._first[1]) / (self._last - self._first[0])


def _tell(summary: Summary, job: Job, progress: Progress, start: float) -> int:
    """Print what came of a run; returns the exit status. Raises the error of a run that did nothing."""
    for warning in summary.warnings:
        complain(warning)
    new, seconds = progress.pictures, time.perf_counter() - start
    good = summary.done - summary.failed
    if summary.fault is not None and not good:
        raise summary.fault
    rate = "" if progress.rate is None else f", once started {progress.rate:.2f} a second"
    say(
        f"{job.output}: {good} pictures segmented{f', {summary.failed} failed' if summary.failed else ''}; "
        f"{new} in this run{f' in {seconds:.1f} s{rate}' if new else ''}"
    )
    if summary.fault is not None:
        complain(f"not all pictures are done: {summary.fault}")
        return SOME_FAILED
    if not good:
        raise ImageError(f"none of the {summary.done} pictures could be segmented; the column error says why")
    return status_of_batch(good, summary.failed)
