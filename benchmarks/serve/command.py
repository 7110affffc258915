"""`python -m benchmarks serve BUNDLE`: a server of its own under load, on loopback."""

from __future__ import annotations

import argparse
import io
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.results_file import write_results
from benchmarks.serve.clients import Answered, crowd, request_of
from benchmarks.serve.hostile import answer, requests
from benchmarks.serve.process import ServerProcess, server, watched
from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.segmenter import Segmenter
from training.drawing.scenes import draw_scene

WORDS = ("sky", "sea", "sand", "boat", "person", "umbrella", "tree", "balloon")

PICTURES, SEED = 16, 2024

LEAST_THROUGHPUT = 0.9
"""Least throughput, as a share of `segment_batch` in the same run."""

PAUSE_S = 1.0
"""Pause of a refused client: the shortest Retry-After."""

MOST_REFUSAL_MS = 50.0
MOST_GROWTH = 0.1
"""Most growth of the server's memory over the long run, after its first tenth."""


@dataclass(frozen=True)
class Figures:
    """Figures of one run."""

    throughput_ratios: tuple[float, ...]
    """Pictures a second of the server's clients, over those of `segment_batch` beside it, round by round."""
    batch_per_s: float
    served_per_s: float
    p50_ms: float
    p99_ms: float
    segment_ms: float
    """Median time of one picture alone."""
    statuses: dict[int, int]
    """Answers of the long run: HTTP status -> number."""
    memory_mib: tuple[float, float, float]
    """After a tenth of the long run, at its end, and the most in between."""
    crowd_statuses: dict[int, int]
    refusal_p99_ms: float
    refusal_most_ms: float
    hostile_statuses: dict[int, int]
    tracebacks: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--backend", default="auto", metavar="B")
    parser.add_argument("--encoders", type=int, default=1, metavar="N", help="as for 't2d serve'; default: 1")
    parser.add_argument("--clients", type=int, default=32, metavar="N", help="clients that fit the queue; default: 32")
    parser.add_argument("--seconds", type=float, default=600, metavar="S", help="length of the long run; default: 600")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds beside segment_batch; default: 5")
    parser.add_argument("--round-seconds", type=float, default=10, metavar="S", help="of each; default: 10")
    parser.add_argument("--crowd", type=int, default=200, metavar="N", help="clients that do not fit; default: 200")
    parser.add_argument("--crowd-seconds", type=float, default=20, metavar="S", help="default: 20")
    parser.add_argument("--hostile", type=int, default=200, metavar="N", help="hostile requests; default: 200")
    parser.add_argument("--json", type=Path, metavar="F", help="also save the figures")


def run(args: argparse.Namespace) -> int:
    """Measure and print; the status is 1 where a figure misses its aim."""
    pictures = [_png(index) for index in range(PICTURES)]
    with server(args.bundle, args.backend, "--encoders", str(args.encoders)) as running:
        segmenter = Segmenter.open(args.bundle, backend=args.backend)
        asked = [request_of(running.address, picture, WORDS) for picture in pictures]
        rounds = [_round(segmenter, running, pictures, asked, args) for _ in range(args.rounds)]
        figures = _measured(args, running, segmenter, pictures, asked, rounds)
    missed = list(_missed(figures, args.clients))
    _print(figures)
    for line in missed:
        print(f"MISSED: {line}")
    if args.json is not None:
        write_results(args.json, "serve", asdict(figures))
    return FAILED_CHECK if missed else 0


def _measured(
    args: argparse.Namespace,
    running: ServerProcess,
    segmenter: Segmenter,
    pictures: Sequence[bytes],
    asked: Sequence[bytes],
    rounds: Sequence[tuple[float, float]],
) -> Figures:
    with watched(running, max(0.2, args.seconds / 100)) as memory:
        long = crowd(running.address, asked, args.clients, args.seconds)
    many = crowd(running.address, asked, args.crowd, args.crowd_seconds, pause_s=PAUSE_S)
    statuses = Counter(answer(running.address, *request) for request in requests(pictures[0], args.hostile))
    times = [1000 * outcome.seconds for outcome in long if outcome.status == 200]
    refused = [1000 * outcome.seconds for outcome in many if outcome.status != 200] or [0.0]
    steady = [size / 2**20 for size in memory[len(memory) // 10 :]] or [0.0]
    return Figures(
        throughput_ratios=tuple(served / batch for batch, served in rounds),
        batch_per_s=float(np.median([batch for batch, _ in rounds])),
        served_per_s=float(np.median([served for _, served in rounds])),
        p50_ms=float(np.percentile(times, 50)),
        p99_ms=float(np.percentile(times, 99)),
        segment_ms=_alone_ms(segmenter, pictures),
        statuses=_counted(long),
        memory_mib=(steady[0], steady[-1], max(steady)),
        crowd_statuses=_counted(many),
        refusal_p99_ms=float(np.percentile(refused, 99)),
        refusal_most_ms=max(refused),
        hostile_statuses=dict(sorted(statuses.items())),
        tracebacks=running.tracebacks(),
    )


def _round(
    segmenter: Segmenter,
    running: ServerProcess,
    pictures: Sequence[bytes],
    asked: Sequence[bytes],
    args: argparse.Namespace,
) -> tuple[float, float]:
    """Pictures a second of `segment_batch` and of the server, for as long each."""
    classes = segmenter.encode_classes(WORDS)
    begun, done = time.perf_counter(), 0
    for _ in segmenter.segment_batch(_again_until(pictures, begun + args.round_seconds), classes):
        done += 1
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    served = crowd(running.address, asked, args.clients, seconds)
    return done / seconds, sum(outcome.status == 200 for outcome in served) / (time.perf_counter() - begun)


def _again_until(pictures: Sequence[bytes], end: float) -> Iterator[bytes]:
    """The pictures again and again until a time of the clock."""
    for picture in itertools.cycle(pictures):
        if time.perf_counter() > end:
            return
        yield picture


def _alone_ms(segmenter: Segmenter, pictures: Sequence[bytes]) -> float:
    times = []
    for picture in pictures:
        begun = time.perf_counter()
        segmenter.segment(picture, WORDS)
        times.append(1000 * (time.perf_counter() - begun))
    return float(np.median(times))


def _png(index: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(draw_scene(seed=SEED, index=index).image).save(stream, "PNG")
    return stream.getvalue()


def _counted(outcomes: Sequence[Answered]) -> dict[int, int]:
    return dict(sorted(Counter(outcome.status for outcome in outcomes).items()))


def _missed(figures: Figures, clients: int) -> list[str]:
    """Aims that a figure misses."""
    wrong = {status for status in figures.hostile_statuses if not 400 <= status < 500}
    first, _, most = figures.memory_mib
    aims = (
        (set(figures.statuses) == {200}, f"answers of the long run are {figures.statuses}, expected 200 alone"),
        (
            float(np.median(figures.throughput_ratios)) >= LEAST_THROUGHPUT,
            f"throughput is below {LEAST_THROUGHPUT} of segment_batch",
        ),
        (figures.p99_ms <= clients * figures.segment_ms, "p99 is above clients x the time of one picture"),
        (most <= first * (1 + MOST_GROWTH), f"memory grew from {first:.0f} to {most:.0f} MiB"),
        (set(figures.crowd_statuses) <= {200, 429}, f"the crowd got {figures.crowd_statuses}, expected 200 and 429"),
        (figures.refusal_most_ms <= MOST_REFUSAL_MS, f"a refusal took {figures.refusal_most_ms:.0f} ms"),
        (not wrong, f"hostile requests got {sorted(wrong)}"),
        (not figures.tracebacks, f"the server logged {figures.tracebacks} tracebacks"),
    )
    return [text for right, text in aims if not right]


def _print(figures: Figures) -> None:
    ratios = ", ".join(f"{ratio:.2f}" for ratio in figures.throughput_ratios)
    first, last, most = figures.memory_mib
    print(f"served {figures.served_per_s:.1f} pictures a second, segment_batch {figures.batch_per_s:.1f}: {ratios}")
    print(
        f"waiting: median {figures.p50_ms:.0f} ms, p99 {figures.p99_ms:.0f} ms; one alone {figures.segment_ms:.0f} ms"
    )
    print(f"answers {figures.statuses}; memory {first:.0f} MiB at first, {last:.0f} at the end, {most:.0f} at most")
    print(
        f"crowd: {figures.crowd_statuses}; refusals p99 {figures.refusal_p99_ms:.0f} ms, most "
        f"{figures.refusal_most_ms:.0f} ms"
    )
    print(f"hostile: {figures.hostile_statuses}; {figures.tracebacks} tracebacks")
