"""The page's sections, in order; one without data says which command makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.report import quality, speed
from benchmarks.report.blocks import Block, Picture, Section, Table, Text
from benchmarks.report.results import ROOT, Result, Results

Blocks = Callable[[list[Result]], list[Block]]


class Source(NamedTuple):
    """A section made of all result files whose names begin alike, one for each model or data set."""

    title: str
    file: str
    command: str
    """Without `python -m benchmarks` and `--json`."""
    blocks: Blocks
    key: str | None = None
    """Of the figures, that has to hold something."""


def each(blocks: Callable[[Result], list[Block]]) -> Blocks:
    """The blocks of every file, one after the other."""
    return lambda results: [block for result in results for block in blocks(result)]


LATENCY = "latency BUNDLE --backbone M --image F --rounds 9 --baselines eager,bf16,compile,compile-bf16 --engines all"

SOURCES = (
    Source("Image encoder against its baselines", "latency", LATENCY, each(speed.encoders)),
    Source("Where the time goes", "latency", LATENCY, each(speed.stages)),
    Source("Starts and memory", "latency", LATENCY, each(speed.starts), key="starts"),
    Source(
        "How times grow",
        "latency",
        f"{LATENCY} --sweep batch,threads,classes,windows",
        each(speed.sweeps),
        key="sweeps",
    ),
    Source("The runtime's bars", "pipeline", "pipeline --bundle BUNDLE", each(speed.pipeline)),
    Source("Precisions and engines", "engines", "engines BUNDLE --scenes 60 --rounds 21", each(quality.engines)),
    Source("Parity with the authors' code", "parity", "parity --golden DIR", each(quality.parity)),
    Source("Masks of drawn scenes", "scenes", "scenes BUNDLE", each(quality.scenes)),
    Source("Masks of data sets", "accuracy", "accuracy BUNDLE ...", quality.accuracy),
    Source("Training", "training_speed", "training_speed", each(speed.training)),
    Source("Features of images", "extraction_speed", "extraction_speed", each(speed.extraction)),
    Source("Devices", "bench", "t2d bench BUNDLE", speed.devices),
)

PICTURES = {
    "docs/scenes.png": "Six held-out drawn scenes: all of their things named, and half of them with background",
    "benchmarks/results/figures/overlays.png": "Labels with and without background and PAMR (Fig. 11 of the paper)",
    "benchmarks/results/figures/cleaning.png": "Background cleaning off and on (Fig. 10)",
    "benchmarks/results/figures/heads.png": "The head that each word chooses (Fig. 7)",
    "benchmarks/results/figures/attention.png": "Attention of every head, and of their average (Fig. 8 and 9)",
    "benchmarks/results/figures/parameters.png": "Parameters (Fig. 5)",
}


def page(results: Results) -> list[Section]:
    """All sections."""
    return [*(_section(source, results) for source in SOURCES), _pictures(), _machines(results)]


def _section(source: Source, results: Results) -> Section:
    found = [r for r in results.named(source.file) if source.key is None or r.figures.get(source.key)]
    if found:
        return Section(source.title, tuple(source.blocks(found)))
    program = "" if source.command.startswith("t2d") else "python -m benchmarks "
    command = f"{program}{source.command} --json benchmarks/results/{source.file}.json"
    return Section(source.title, (Text(f"Not measured yet: {command}"),))


def _pictures() -> Section:
    """Of the small model."""
    blocks = [Picture(ROOT / path, caption) for path, caption in PICTURES.items() if (ROOT / path).is_file()]
    return Section("Pictures, by the small model", tuple(blocks))


def _machines(results: Results) -> Section:
    """Where every file comes from."""
    headers = ("result", "date", "commit", "processor", "cores", "load", "features", "Python", "versions")
    rows = tuple(
        (
            result.name,
            facts["date"],
            facts["commit"] or "",
            facts["cpu"],
            str(facts["cores"]),
            str(facts.get("load_average", "")),
            " ".join(facts["cpu_features"]),
            facts["python"],
            ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        )
        for result in results
        for facts in (result.provenance,)
    )
    note = "Load: runnable tasks over five minutes. Where it exceeds the cores, trust ratios alone."
    return Section("Machines and versions", (Table(headers, rows), Text(note)))
