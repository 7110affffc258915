"""The command: which rows, on which model, and the table they make."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from benchmarks.pipeline.rows import Row
    from benchmarks.pipeline.setup import Setup
    from t2d_export.export import ExportSettings

ROWS = {
    "products": "encoders.product_rows",
    "image-fp32": "encoders.fp32_rows",
    "image-bf16": "encoders.bf16_rows",
    "image-int8": "encoders.int8_rows",
    "labels": "masks.label_rows",
    "after-encoder": "masks.after_encoder_rows",
    "other-words": "masks.other_words_rows",
    "vocabulary": "texts.vocabulary_rows",
    "words": "processes.words_rows",
    "large-image": "processes.large_image_rows",
    "import": "processes.import_rows",
    "cold-start": "processes.cold_start_rows",
    "images": "images.image_rows",
    "text": "texts.text_rows",
    "installed": "installed.installed_rows",
    "window-20": "masks.window_20_rows",
    "memory": "processes.memory_rows",
    "window-171": "masks.window_171_rows",
}
"""Name -> the function that measures it, quick ones first."""

PRECISIONS = ("fp32", "int8")
"""In which a model is exported where no bundle is given; bf16 is made of fp32."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m benchmarks pipeline`."""
    parser.add_argument(
        "--backbone", default="dinov2_vitb14_reg", metavar="NAME|FOLDER", help="as for t2d-export; default: %(default)s"
    )
    weights = "default: random, or the folder's own"
    parser.add_argument("--backbone-weights", metavar="FILE|hub|random", help=weights)
    parser.add_argument("--text-weights", metavar="FILE|hub|random", help=weights)
    parser.add_argument("--projection", metavar="FILE|hub|random", help=weights)
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="of this model; default: exported, which takes minutes"
    )
    parser.add_argument("--rows", metavar="LIST", help=f"default: all of {','.join(ROWS)}")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument(
        "--slow-rounds", type=int, default=3, help="where a round takes many seconds; default: %(default)s"
    )
    parser.add_argument("--json", type=Path, metavar="F", help="save the table")


def run(args: argparse.Namespace) -> int:
    """Print the table row by row; status 1 where a bar is missed."""
    from benchmarks.results_file import write_results
    from t2d_runtime.cli import FAILED_CHECK

    if min(args.rounds, args.slow_rounds) < 1:
        raise OptionError(f"--rounds is {args.rounds} and --slow-rounds {args.slow_rounds}, expected at least 1")
    chosen = args.rows.split(",") if args.rows else list(ROWS)
    unknown = [name for name in chosen if name not in ROWS]
    if unknown:
        raise OptionError(f"unknown rows {unknown}, expected some of {','.join(ROWS)}")
    table: dict[str, list[Row]] = {}
    with _setup(args) as setup:
        facts = _facts(setup)
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        for number, name in enumerate(chosen, start=1):
            print(f"[{number}/{len(chosen)}] {name} ...", file=sys.stderr, flush=True)
            start = time.perf_counter()
            table[name] = _measure(name)(setup)
            print(f"{name}, {time.perf_counter() - start:.0f} s")
            for row in table[name]:
                print_row(row)
            if args.json is not None:
                write_results(args.json, "pipeline", facts | {"rows": _figures(table)})
    missed = [row.what for rows in table.values() for row in rows if row.reached is False]
    print("\n".join(f"MISSED: {what}" for what in missed) or "every bar that could be measured here is reached")
    return FAILED_CHECK if missed else 0


def print_row(row: Row) -> None:
    """A row of the table: figure, bar, verdict, what was compared."""
    value = "-" if row.value is None else f"{row.value:.4g} {row.unit}"
    bar = "" if row.bar is None else f"{'at most' if row.at_most else 'at least'} {row.bar:g}"
    bar += f" ({row.aim:g})" if row.aim is not None else ""
    verdict = {True: "reached", False: "MISSED", None: "" if row.bar is None else "not measured"}[row.reached]
    print(f"  {value:>14}  {bar:<18} {verdict:<12} {row.what}" + (f" [{row.note}]" if row.note else ""))
    if row.medians_ms:
        medians = ", ".join(f"{name} {ms:.1f}" for name, ms in row.medians_ms.items())
        print(f"{'':>18}median ms of {row.rounds}: {medians}", flush=True)


def _measure(name: str) -> Any:
    module, function = ROWS[name].split(".")
    return getattr(importlib.import_module(f"benchmarks.pipeline.{module}"), function)


@contextmanager
def _setup(args: argparse.Namespace) -> Iterator[Setup]:
    import torch

    from benchmarks.pipeline.setup import Setup
    from t2d_export.export import export_bundle

    threads = args.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    settings = _settings(args)
    with tempfile.TemporaryDirectory() as folder:
        bundle = args.bundle or Path(folder) / "bundle"
        if args.bundle is None:
            print(f"exporting {args.backbone} in {', '.join(PRECISIONS)} ...", file=sys.stderr, flush=True)
            export_bundle(settings, bundle)
        reference = settings.load_reference()
        yield Setup(bundle, reference, args.backbone, threads, args.rounds, args.slow_rounds)


def _settings(args: argparse.Namespace) -> ExportSettings:
    from t2d_export.architectures.folder_model import CONFIG
    from t2d_export.export import ExportSettings
    from t2d_runtime.bundle.files import Bundle

    unnamed = None if (Path(args.backbone) / CONFIG).is_file() else "random"
    weights = (args.backbone_weights, args.text_weights, args.projection)
    size = Bundle.open(args.bundle).manifest.model.input_size if args.bundle else None
    backbone, text, projection = (given or unnamed for given in weights)
    return ExportSettings(args.backbone, backbone, text, projection, size, PRECISIONS)


def _facts(setup: Setup) -> dict[str, Any]:
    import torch

    model = setup.segmenter().manifest.model
    return {
        "backbone": model.backbone,
        "weights": setup.reference.sources["backbone"].name,
        "input_size": model.input_size,
        "threads": setup.threads,
        "torch_threads": torch.get_num_threads(),
        "fast": f"{setup.fast.precision} on {setup.fast.backend_name}",
        "rounds": setup.rounds,
    }


def _figures(table: dict[str, list[Row]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(row) | {"reached": row.reached} for row in rows] for name, rows in table.items()}
