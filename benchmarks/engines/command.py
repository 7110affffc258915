"""Every precision on every backend of this machine: size, times, parity, labels, mIoU; and TensorRT for RTX builds."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from tqdm import tqdm

from benchmarks.contenders.prompts import prompt_ids
from benchmarks.engines import fused
from benchmarks.engines.tables import blocks
from benchmarks.results_file import write_results
from benchmarks.timing import in_turn
from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.engines import read_engine, read_engines
from t2d_runtime.bundle.files import IMAGE_ENCODER, SEGMENTER, TEXT_ENCODER, Bundle
from t2d_runtime.bundle.manifest import StageParity
from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import OptionError, T2DError
from t2d_runtime.proof.selftest import run_selftest
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.storage.cache import VARIABLE

LABEL_AGREEMENT = {"fp32": 0.9999, "fp16": 0.995, "bf16": 0.995, "int8": 0.98}
"""Least share of the held-out scenes' pixels that keep the label of float32 on ONNX Runtime."""

MOST_LOST_MIOU = 0.01

COMPUTE_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities of TensorRT for RTX 1.7, except 7.5, which has neither float32 products nor bfloat16."""

FUSED_CAPABILITY = "8.9"
"""The one capability for which the fused graph is built: with PAMR and without, it takes ten times as long."""


@dataclass(frozen=True)
class Combination:
    """Figures of one precision on one backend."""

    precision: str
    backend: str
    engine: str
    size_bytes: int
    """Size of the loaded files of the bundle."""
    load_ms: float
    """Time to load both encoders with an empty cache."""
    cached_load_ms: float
    """Time to load them again, with compiled models cached if the backend caches them."""
    image_encoder_ms: float
    text_encoder_ms: float
    stages: tuple[StageParity, ...]
    label_agreement: float | None
    miou: float | None


@dataclass(frozen=True)
class Build:
    """One precision of both encoders, or of the fused graph, built for one compute capability."""

    precision: str
    target: str
    fused: bool
    layers: dict[str, int]
    size_bytes: dict[str, int]
    fused_attentions: dict[str, int]
    """Kernels that compute a whole attention, by graph; their logits never go through memory."""
    warnings: tuple[str, ...]
    seconds: float
    error: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks engines`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle with every precision to measure")
    parser.add_argument(
        "--scenes", type=int, default=0, metavar="N", help="held-out scenes, with models/tiny; default: 0"
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the latencies; default: 15")
    parser.add_argument("--threads", type=int, help="default: the engines' choice")
    parser.add_argument("--rtx", action=argparse.BooleanOptionalAction, default=True, help="build for TensorRT for RTX")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Print the tables; the status is 1 where a combination misses its gates or an engine does not build."""

    if args.rounds < 1 or args.scenes < 0:
        raise OptionError(f"--rounds is {args.rounds} and --scenes {args.scenes}, expected at least 1 and 0")
    bundle = Bundle.open(args.bundle)
    rows = measure(bundle, args.rounds, args.scenes, args.threads)
    fused_rows = fused.measure(bundle, args.rounds, args.threads) if SEGMENTER in bundle.manifest.files else []
    builds = build_matrix(bundle) if args.rtx else []
    figures = {
        "backbone": bundle.manifest.model.backbone,
        "model_digest": bundle.model_digest,
        "input_size": bundle.manifest.model.input_size,
        "rounds": args.rounds,
        "scenes": args.scenes,
        "combinations": [asdict(row) for row in rows],
        "fused": [asdict(row) for row in fused_rows],
        "tensorrt_rtx": [asdict(build) for build in builds],
    }
    print(*blocks(figures), sep="\n")
    if args.json is not None:
        write_results(args.json, "engines", figures)
    failed = [f"{row.precision} on {row.backend}: {reason}" for row in rows for reason in misses(row, rows[0])]
    failed += [f"{build.precision} for {build.target}: {build.error}" for build in builds if build.error]
    passed = "every combination is within its gates" + ", every engine builds" * bool(builds)
    print("\n".join(f"FAILED: {line}" for line in failed) or passed)
    return FAILED_CHECK if failed else 0


def misses(row: Combination, full: Combination) -> list[str]:
    """Descriptions of the gates that a combination misses; `full` is float32 on ONNX Runtime."""
    found = [stage.verdict for stage in row.stages if not stage.passed]
    if row.label_agreement is not None and row.label_agreement < LABEL_AGREEMENT[row.precision]:
        found.append(f"{row.label_agreement:.3%} of the scenes' labels agree")
    if row.miou is not None and full.miou is not None and row.miou < full.miou - MOST_LOST_MIOU:
        found.append(f"mIoU {row.miou:.3f}, float32 {full.miou:.3f}")
    return found


def measure(bundle: Bundle, rounds: int, scenes: int, threads: int | None) -> list[Combination]:
    """Measure every precision on every CPU backend that runs it, float32 on ONNX Runtime first."""
    backends = [open_backend(name) for name in ("onnxruntime", "openvino")]
    pairs = [(backend, precision) for backend in backends for precision in backend.precisions(bundle)]
    loads = [load_times(bundle, backend, precision, threads) for backend, precision in pairs]
    opened = [
        Segmenter(Encoders(bundle, backend, precision=precision, num_threads=threads)) for backend, precision in pairs
    ]
    window = np.random.default_rng(0).integers(0, 256, (1, *bundle.manifest.windows.crop_size, 3), np.uint8)
    ids = prompt_ids(opened[0], [f"thing {number}" for number in range(20)])
    images = in_turn({str(i): partial(s.encoders.run_image_encoder, window) for i, s in enumerate(opened)}, rounds)
    texts = in_turn({str(i): partial(s.encoders.run_text_encoder, ids) for i, s in enumerate(opened)}, rounds)
    labels = label_agreements(opened, scenes) if scenes else [None] * len(opened)
    return [
        Combination(
            precision=precision,
            backend=backend.name,
            engine=str(backend.identity),
            size_bytes=loaded_bytes(bundle, backend, precision),
            load_ms=loads[i][0],
            cached_load_ms=loads[i][1],
            image_encoder_ms=images[str(i)].median_ms,
            text_encoder_ms=texts[str(i)].median_ms,
            stages=run_selftest(opened[i].encoders),
            label_agreement=labels[i],
            miou=mean_iou(opened[i], scenes) if scenes else None,
        )
        for i, (backend, precision) in enumerate(pairs)
    ]


def load_times(bundle: Bundle, backend: Backend, precision: str, threads: int | None) -> tuple[float, float]:
    """Milliseconds to load both encoders with an empty cache, and to load them again."""

    def load() -> float:
        start = time.perf_counter()
        for graph in (IMAGE_ENCODER, TEXT_ENCODER):
            backend.load(bundle, graph, precision=precision, num_threads=threads)
        return (time.perf_counter() - start) * 1e3

    for graph in (IMAGE_ENCODER, TEXT_ENCODER):  # verifies the checksums before, so that this is not timed
        bundle.graph(graph, precision if precision in bundle.graph_precisions(graph) else "fp32")
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {VARIABLE: folder}):
        return load(), load()


def loaded_bytes(bundle: Bundle, backend: Backend, precision: str) -> int:
    """Size of the files that a backend reads for a precision."""
    sizes = {record.sha256: record.size_bytes for record in bundle.manifest.files.values()}
    return sum(sizes[digest] for digest in backend.digests(bundle, precision))


def label_agreements(segmenters: list[Segmenter], scenes: int) -> list[float]:
    """Share of held-out scenes' pixels that every segmenter labels like the first one, with all concepts."""
    from benchmarks.scenes.command import HELD_OUT_SEED
    from training.drawing.concepts import CONCEPTS
    from training.drawing.scenes import draw_scenes

    words = [segmenter.encode_classes(CONCEPTS) for segmenter in segmenters]
    agreeing, pixels = np.zeros(len(segmenters)), 0
    for scene in draw_scenes(scenes, HELD_OUT_SEED, progress=False):
        maps = [s.segment(scene.image, w).label_map for s, w in zip(segmenters, words, strict=True)]
        agreeing += [(labels == maps[0]).sum() for labels in maps]
        pixels += maps[0].size
    return [float(share) for share in agreeing / pixels]


def mean_iou(segmenter: Segmenter, count: int) -> float:
    """mIoU of held-out scenes with background and without PAMR, which engines do not compute."""
    from benchmarks.scenes.command import measure as measure_scenes

    miou: float = measure_scenes(segmenter, segmenter.precision, count=count, refine=False)["background"]
    return miou


def build_matrix(bundle: Bundle) -> list[Build]:
    """Build TensorRT for RTX engines of every stored precision, in a temporary copy of the bundle."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(bundle.folder, Path(folder) / "bundle"))
        targets = tqdm(list(build_targets(bundle)), desc="engines", disable=None, leave=False)
        return [build(copy, *target) for target in targets]


def build_targets(bundle: Bundle) -> Iterator[tuple[str, str, bool]]:
    """Precision and compute capability of each build, and True for the fused graph, where the bundle has it."""
    yield from ((p, c, False) for p in bundle.graph_precisions(IMAGE_ENCODER) for c in COMPUTE_CAPABILITIES)
    yield from ((p, FUSED_CAPABILITY, True) for p in bundle.graph_precisions(SEGMENTER))


def build(folder: Path, precision: str, capability: str, fused: bool) -> Build:
    """Build both encoders, or the fused graph; returns the result, failures too."""
    from t2d_export.engines.layer_report import read_report
    from t2d_export.engines.to_engine import Target, build_engine

    start = time.perf_counter()
    try:
        output = build_engine(folder, Target("tensorrt-rtx", capability), precision, fused=fused)
    except T2DError as error:
        return Build(precision, capability, fused, {}, {}, {}, (), time.perf_counter() - start, str(error))
    seconds = time.perf_counter() - start
    manifest = read_engines(Bundle.open(folder), "tensorrt-rtx")[output]
    graphs = manifest.graphs
    reports = {name: read_report(bytes(read_engine(output, manifest, name))) for name in graphs}
    shutil.rmtree(output)
    return Build(
        precision=precision,
        target=capability,
        fused=fused,
        layers={name: built.num_layers for name, built in graphs.items()},
        size_bytes={name: built.record.size_bytes for name, built in graphs.items()},
        fused_attentions={name: report.fused_attentions for name, report in reports.items()},
        warnings=tuple(warning for built in graphs.values() for warning in built.warnings),
        seconds=seconds,
        error=None,
    )
