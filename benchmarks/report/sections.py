"""The page's sections, in order. A section without data names the command that makes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks.blocks import Block, Picture, Section, Table
from benchmarks.engines import tables as engines
from benchmarks.figures import parameters
from benchmarks.gpu import tables as gpu
from benchmarks.report import quality, speed
from benchmarks.report.results import ROOT, Result, Results
from benchmarks.scenes import tables as scenes

LATENCY = "latency BUNDLE --backbone M --image F --parts"


class Source(NamedTuple):
    """A section from all result files with one beginning of their names: one file for each model or data set."""

    title: str
    file: str
    command: str
    """The command, without `python -m benchmarks` and `--json`."""
    blocks: Callable[[list[Result]], list[Block]]
    parts: tuple[str, ...] = ()
    """Parts of `latency`. A file must hold one of them."""
    optional: bool = False
    """True for a section that stays off the page as long as no machine for it was at hand."""


def each(blocks: Callable[[Result], list[Block]]) -> Callable[[list[Result]], list[Block]]:
    """The blocks of every file, one after the other."""
    return lambda results: [block for result in results for block in blocks(result)]


def _figures(blocks: Callable[[dict[str, Any]], list[Block]]) -> Callable[[Result], list[Block]]:
    """The output of the command, and the machine."""
    return lambda result: [*blocks(result.figures), f"{speed.processor(result)}."]


def _latency(title: str, *parts: str) -> Source:
    return Source(title, "latency", f"{LATENCY} {','.join(parts)}", each(partial(speed.latency, parts=parts)), parts)


SOURCES = (
    _latency("Image encoder against its baselines", "encoders"),
    _latency("Where the time goes", "stages"),
    _latency("Starts", "starts"),
    _latency("How times grow", "batch", "threads", "classes", "sizes"),
    _latency("Windows, words, memory and size", "windows", "words", "memory", "size"),
    Source(
        "Precisions and engines", "engines", "engines BUNDLE --scenes 60 --rounds 21", each(_figures(engines.blocks))
    ),
    Source("On a GPU", "gpu", "gpu BUNDLE", each(lambda result: gpu.blocks(result.figures)), optional=True),
    Source("Parity with the authors' code", "parity", "parity --golden DIR", each(quality.parity)),
    Source("Masks of drawn scenes", "scenes", "scenes BUNDLE", each(_figures(scenes.blocks))),
    Source("Masks of data sets", "accuracy", "accuracy BUNDLE ...", quality.accuracy),
    Source("Training", "training", "training", each(speed.training)),
    Source(
        "Parameters",
        "parameters",
        "figures BUNDLE IMAGE --classes WORDS --output DIR",
        each(lambda result: parameters.blocks(result.figures)),
    ),
    Source("Devices", "bench", "t2d bench BUNDLE", speed.devices),
)

PICTURES = {
    "docs/scenes.png": "Six held-out drawn scenes: all of their things named, and half of them with background",
    "benchmarks/results/figures/overlays.png": "Labels with and without background and PAMR (Fig. 11 of the paper)",
    "benchmarks/results/figures/cleaning.png": "Background cleaning off and on (Fig. 10)",
    "benchmarks/results/figures/heads.png": "The head that each word chooses, and their cosine (Fig. 7)",
    "benchmarks/results/figures/attention.png": "Attention of every head, and of their average (Fig. 8 and 9)",
}


def page(results: Results) -> list[Section]:
    """All sections."""
    shown = (source for source in SOURCES if not source.optional or results.named(source.file))
    return [*(_section(source, results) for source in shown), _pictures(), _machines(results)]


def _section(source: Source, results: Results) -> Section:
    found = results.named(source.file)
    if source.parts:
        found = [result for result in found if not result.figures["parts"].keys().isdisjoint(source.parts)]
    if found:
        return Section(source.title, tuple(source.blocks(found)))
    program = "" if source.command.startswith("t2d") else "python -m benchmarks "
    command = f"{program}{source.command} --json benchmarks/results/{source.file}.json"
    return Section(source.title, (f"Not measured yet: {command}",))


def _pictures() -> Section:
    """Pictures of the small model."""
    blocks = [Picture(ROOT / path, caption) for path, caption in PICTURES.items() if (ROOT / path).is_file()]
    return Section("Pictures, by the small model", tuple(blocks))


def _machines(results: Results) -> Section:
    """The machine and versions of every file."""
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
    return Section("Machines and versions", (Table(headers, rows), note))
