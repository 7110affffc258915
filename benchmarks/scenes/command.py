"""`python -m benchmarks scenes`: mIoU of a bundle's masks on held-out drawn scenes, through the runtime alone.

There are three figures. `present` segments each scene with the words of its concepts. `background` takes a random half
of those words, and the rest is background. `vocabulary` takes every concept's word on every scene. `--tune N` adds
`tuned`: as `background`, with a threshold for each concept, found on N scenes of another series.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.results_file import write_results
from benchmarks.scenes.tables import blocks
from benchmarks.scenes.tuning import TUNING_SEED, tuned_thresholds
from t2d_runtime import Segmenter
from t2d_runtime.errors import OptionError
from t2d_runtime.words.vocabulary import ClassEmbeddings
from training.drawing.concepts import CONCEPTS, INDEX
from training.drawing.scene_masks import BACKGROUND, IntersectionOverUnion, named_half, with_background
from training.drawing.scenes import Scene, draw_scenes

HELD_OUT_SEED: Final = 777
"""Seed of the held-out scenes. `training.commands.tiny` trains and validates on others."""


def measure(
    segmenter: Segmenter,
    name: str,
    *,
    count: int = 200,
    seed: int = HELD_OUT_SEED,
    refine: bool = True,
    cleaning: bool = True,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """mIoU, and IoU by class, of each protocol on `count` scenes of series `seed`, with the settings.

    `cleaning` applies to the protocols with background. `thresholds` of concepts add the protocol `tuned`.
    """
    protocols = ("present", "background", "vocabulary", *(["tuned"] if thresholds else []))
    judged = {protocol: IntersectionOverUnion() for protocol in protocols}
    everything = segmenter.encode_classes(CONCEPTS)
    for index, scene in enumerate(
        tqdm(draw_scenes(count, seed, progress=False), total=count, unit="scene", disable=None)
    ):
        encoding = segmenter.encode_image(scene.image)
        present = segmenter.encode_classes(scene.concepts)
        result = segmenter.segment(encoding, present, refine=refine)
        judged["present"].add(_concepts(result.label_map, present), scene.labels)
        half, truth = _half(segmenter, scene, seed, index)
        result = segmenter.segment(encoding, half, background=True, cleaning=cleaning, refine=refine)
        judged["background"].add(_concepts(result.label_map, half, background=True), truth)
        if thresholds:
            own = replace(half, thresholds={name: thresholds[name] for name in half.names if name in thresholds})
            result = segmenter.segment(encoding, own, background=True, cleaning=cleaning, refine=refine)
            judged["tuned"].add(_concepts(result.label_map, own, background=True), truth)
        result = segmenter.segment(encoding, everything, refine=refine)
        judged["vocabulary"].add(_concepts(result.label_map, everything), scene.labels)
    settings = {"bundle": name, "count": count, "seed": seed, "refine": refine, "cleaning": cleaning}
    return {
        **settings,
        "threshold": segmenter.manifest.defaults.threshold,
        **({"thresholds": dict(thresholds)} if thresholds else {}),
        **{protocol: scores.mean() for protocol, scores in judged.items()},
        "per_class": {protocol: scores.per_class() for protocol, scores in judged.items()},
    }


def _half(segmenter: Segmenter, scene: Scene, seed: int, index: int) -> tuple[ClassEmbeddings, NDArray[np.uint8]]:
    named = named_half(scene, seed, index)
    return segmenter.encode_classes(named), with_background(scene.labels, named)


def _concepts(
    label_map: NDArray[np.uint8 | np.uint16], classes: ClassEmbeddings, *, background: bool = False
) -> NDArray[np.uint8]:
    """Labels of a result as concept indices."""
    numbers = [INDEX[name] for name in classes.names]
    table = np.asarray([BACKGROUND, *numbers] if background else numbers, dtype=np.uint8)
    return table[label_map]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks scenes`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--count", type=int, default=200, help="number of scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="series of scenes (default: %(default)s)")
    parser.add_argument("--refine", action=argparse.BooleanOptionalAction, default=True, help="refine with PAMR")
    parser.add_argument(
        "--cleaning",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="clean the background, in the protocol with background",
    )
    tune = "find a threshold for each word on this many scenes of another series, and judge them too"
    parser.add_argument("--tune", type=int, metavar="N", help=tune)
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Run `python -m benchmarks scenes`."""
    if args.count < 1:
        raise OptionError(f"--count is {args.count}, expected at least 1")
    if args.tune is not None and (args.tune < 1 or args.seed == TUNING_SEED):
        raise OptionError(f"--tune takes at least 1 scene, and judges other series than {TUNING_SEED}, its own")
    segmenter = Segmenter.open(args.bundle)
    options = {"refine": args.refine, "cleaning": args.cleaning}
    thresholds = None if args.tune is None else tuned_thresholds(segmenter, args.tune, **options)
    figures = measure(segmenter, args.bundle.name, count=args.count, seed=args.seed, thresholds=thresholds, **options)
    print(*blocks(figures), sep="\n")
    if args.json is not None:
        write_results(args.json, "scenes", figures)
    return 0
