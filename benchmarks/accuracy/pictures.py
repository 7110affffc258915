"""Pictures of single images: what they show, what is true of them and what was found, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.accuracy.dataset import DataSet, Sample
from benchmarks.accuracy.evaluation import read_sample
from benchmarks.accuracy.labelling import Labeller, LabelMap, Pixels
from benchmarks.accuracy.metric import IGNORED, Truth
from benchmarks.side_by_side import side_by_side
from t2d_runtime.results.visualize import overlay
from t2d_runtime.storage.whole_file import whole_file

PANEL_SIDE: Final = 480
"""Longest side of a panel in pixels; smaller images are not enlarged beyond their double."""

IGNORED_NAME: Final = "ignored"

DIFFERENCE_COLOUR: Final = (255, 0, 80)
"""Of pixels that bundle and reference label differently; the rest of the image is grey."""


def write_pictures(folder: Path, data: DataSet, names: list[str], label: Labeller) -> list[Path]:
    """A PNG file for each of the named images, numbered in their order. Raises OutputError."""
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
    """image | truth | result, and where there is a reference: | its result | the pixels that differ."""
    image, truth = read_sample(sample, data.rule)
    labelled = label(image)
    size = _panel_size(image)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    panels = {
        sample.name: Image.fromarray(small),
        "truth": _truth_panel(small, truth, data),
        "result": _labels_panel(small, labelled.labels, data),
    }
    if labelled.reference is not None:
        panels["PyTorch"] = _labels_panel(small, labelled.reference.labels, data)
        differs = labelled.labels != labelled.reference.labels
        panels[f"differ: {differs.mean():.2%}"] = _difference_panel(image, differs, size)
    return side_by_side(panels)


def _panel_size(image: Pixels) -> tuple[int, int]:
    """(width, height) of a panel."""
    height, width = image.shape[:2]
    scale = min(2.0, PANEL_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _labels_panel(image: Pixels, labels: LabelMap, data: DataSet) -> Image.Image:
    return overlay(image, _nearest(labels, image).astype(np.uint16), data.label_names, background=data.background)


def _truth_panel(image: Pixels, truth: Truth, data: DataSet) -> Image.Image:
    """As the result's; what is ignored has a label of its own, and no colour where there is no background."""
    small = _nearest(truth, image)
    if data.background:
        ignored = len(data.label_names)
        labels = np.where(small == IGNORED, ignored, small).astype(np.uint16)
        return overlay(image, labels, (*data.label_names, IGNORED_NAME), background=True)
    return overlay(image, (small + 1).astype(np.uint16), (IGNORED_NAME, *data.label_names), background=True)


def _difference_panel(image: Pixels, differs: NDArray[np.bool_], size: tuple[int, int]) -> Image.Image:
    """Every differing pixel is seen, however small the panel."""
    grey = np.asarray(Image.fromarray(image).convert("L").convert("RGB")).copy() // 2 + 64
    grey[differs] = DIFFERENCE_COLOUR
    shown = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR)).copy()
    rows, columns = np.nonzero(differs)
    scale = np.array([size[1], size[0]]) / differs.shape
    shown[(rows * scale[0]).astype(int), (columns * scale[1]).astype(int)] = DIFFERENCE_COLOUR
    return Image.fromarray(shown)


def _nearest(labels: LabelMap | Truth, image: Pixels) -> LabelMap | Truth:
    """Labels (H,W) sampled at the size of a panel."""
    rows, columns = ((np.arange(to) * have) // to for have, to in zip(labels.shape, image.shape[:2], strict=True))
    sampled: LabelMap | Truth = labels[rows[:, np.newaxis], columns]
    return sampled
