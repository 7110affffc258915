"""Pictures of single images: the image, its true labels and the found labels, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.accuracy.dataset import DataSet, Sample
from benchmarks.accuracy.evaluation import read_sample
from benchmarks.accuracy.labelling import Labeller, Pixels
from benchmarks.accuracy.metric import IGNORED
from benchmarks.side_by_side import side_by_side
from t2d_runtime.results.visualize import overlay
from t2d_runtime.storage.whole_file import whole_file

PANEL_SIDE: Final = 480
"""Most pixels of a panel's side."""

IGNORED_NAME: Final = "ignored"

DIFFERENCE_COLOUR: Final = (255, 0, 80)
"""Colour of pixels that bundle and reference label differently. The rest of the image is grey."""


def write_pictures(folder: Path, data: DataSet, names: list[str], label: Labeller) -> list[Path]:
    """Write a PNG file for each of the named images, numbered in their order. Raises OutputError."""
    samples = {sample.name: sample for sample in data.samples}
    paths = []
    for number, name in enumerate(names, start=1):
        path = folder / f"{number:02d}-{name.replace('/', '-')}.png"
        picture = draw(samples[name], data, label)
        with whole_file(path) as file:
            picture.save(file, "PNG")
        paths.append(path)
    return paths


def draw(sample: Sample, data: DataSet, label: Labeller) -> Image.Image:
    """Panels: image | truth | result, and with a reference: | its result | the pixels that differ."""
    image, truth = read_sample(sample, data.rule)
    labelled = label(image)
    step = -(-max(truth.shape) // PANEL_SIDE)
    every = (slice(None, None, step),) * 2
    small = np.asarray(Image.fromarray(image).reduce(step))
    names = (IGNORED_NAME, *data.label_names)  # without background, ignored pixels take its place
    if data.background:
        names = (*data.label_names, IGNORED_NAME)
        truth = np.where(truth == IGNORED, len(data.label_names), truth)
    shown = (truth[every] + (not data.background)).astype(np.uint16)
    panels = {
        sample.name: Image.fromarray(small),
        "truth": overlay(small, shown, names, background=True),
        "result": overlay(small, labelled.labels[every], data.label_names, background=data.background),
    }
    if labelled.reference is not None:
        differs = labelled.labels != labelled.reference
        panels["PyTorch"] = overlay(small, labelled.reference[every], data.label_names, background=data.background)
        panels[f"differ: {differs.mean():.2%}"] = _difference_panel(small, differs, step)
    return side_by_side(panels)


def _difference_panel(image: Pixels, differs: NDArray[np.bool_], step: int) -> Image.Image:
    """A panel in which every differing pixel is visible, however small the panel."""
    shown = np.asarray(Image.fromarray(image).convert("L").convert("RGB")).copy() // 2 + 64
    rows, columns = np.nonzero(differs)
    shown[rows // step, columns // step] = DIFFERENCE_COLOUR
    return Image.fromarray(shown)
