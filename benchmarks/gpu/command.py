"""Proves and times everything that runs on an NVIDIA GPU: one command, unattended, within eight minutes."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.gpu.found import Found, find
from benchmarks.gpu.running import Row, Runner, in_process, run_stages
from benchmarks.gpu.stages import BUILT, SLOW, Stage, stages_of
from benchmarks.gpu.tables import blocks, line_of, readme_rows
from benchmarks.results_file import write_results
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.errors import OptionError

BACKBONE, EXPORTED = "dinov2_vitb14_reg", ("fp32", "fp16", "bf16")
"""Backbone that is exported, with random weights, where no bundle is given."""

MINUTES = 7.5
EXPORT_SHARE = 0.6
"""Most of the time that the export may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks gpu`."""
    parser.add_argument(
        "bundle", type=Path, nargs="?", metavar="BUNDLE", help=f"default: {BACKBONE} with random weights, exported here"
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time for all stages; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures, after every stage")


def run(
    args: argparse.Namespace,
    finder: Callable[[], Found] = find,
    runner: Runner = in_process,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Print what is found, then a table; the status is 1 where a stage failed, and 0 without a GPU."""
    if not args.minutes > 0:
        raise OptionError(f"--minutes is {args.minutes}, expected more than 0")
    given = None if args.bundle is None else Bundle.open(args.bundle)
    found = finder()
    figures: dict[str, Any] = {"found": asdict(found), "bundle": None, "rows": []}

    def save(rows: list[Row]) -> None:
        figures["rows"] = [asdict(row) for row in rows]
        if args.json is not None:
            write_results(args.json, "gpu", figures)
        for row in figures["rows"][-1:]:
            tqdm.write(line_of(row))

    save([])
    print(*blocks(figures), sep="\n")
    if found.gpu is None:
        return 0
    end = clock() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as name:
        bundle, first = (given, []) if given is not None else _exported(Path(name), runner, save, end, clock)
        if bundle is None:
            print("", *blocks(figures), sep="\n")
            return FAILED_CHECK
        figures |= {"bundle": {"backbone": bundle.manifest.model.backbone, "model_digest": bundle.model_digest}}
        folder = bundle.folder
        if any(backend not in found.absent for backend in BUILT):  # engines go into a copy
            folder = Path(shutil.copytree(folder, Path(name) / "with-engines"))
        stages = stages_of(found, bundle, folder)
        with tqdm(total=len(stages), desc="stages", disable=None, leave=False) as bar:

            def shown(stage: Stage, limit: float) -> Any:
                bar.set_postfix_str(stage.name)
                return runner(stage, limit)

            def report(rows: list[Row]) -> None:
                bar.update(len(rows) - bar.n)
                save(first + rows)

            rows = first + run_stages(stages, shown, seconds=end - clock(), report=report, clock=clock)
    print("", *blocks(figures), sep="\n")
    print("", "README:", *readme_rows(figures), sep="\n")
    return FAILED_CHECK if any(row.status == "failed" for row in rows) else 0


def _exported(
    folder: Path, runner: Runner, save: Callable[[list[Row]], None], end: float, clock: Callable[[], float]
) -> tuple[Bundle | None, list[Row]]:
    """A bundle made here, and its row; no bundle where that failed."""
    output = folder / "bundle"
    arguments = {"output": str(output), "backbone": BACKBONE, "precisions": list(EXPORTED)}
    stage = Stage("bundle", " ".join(EXPORTED), "export", "export", arguments, SLOW)
    seconds = EXPORT_SHARE * (end - clock())
    rows = run_stages([stage], runner, seconds=seconds, report=save, clock=clock)
    return (Bundle.open(output) if rows[0].status == "done" else None), rows
