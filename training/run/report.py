"""Results of a finished run: the projection, plots of losses and head choices, a model card."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from t2d_export.model.projection import Projection, state_dict_in_authors_layout
from t2d_runtime.storage.whole_file import whole_file
from training.config import TrainConfig
from training.features.feature_set import FeatureSet, IndexArray
from training.run.checkpoint import EpochRecord
from training.storage import write_text

HEAD_CHOICES = "head_choices.npz"
LOSSES_PLOT = "losses.png"
HEADS_PLOT = "heads.png"
MODEL_CARD = "README.md"

PACKAGES = ("t2d-runtime", "torch", "timm", "open_clip_torch", "numpy")


def write_projection(path: Path, projection: Projection) -> None:
    """Write the weights in the authors' format: a state dict under their names, by `torch.save`."""
    with whole_file(path) as file:
        torch.save(state_dict_in_authors_layout(projection), file)


def write_head_choices(output: Path, caption_ids: IndexArray, heads: IndexArray) -> None:
    """Write the head that each caption chose in the last epoch: `caption_ids` and `heads`, (captions,) int64 each."""
    with whole_file(output / HEAD_CHOICES) as file:
        np.savez_compressed(file, caption_ids=caption_ids, heads=heads)


def write_report(
    output: Path, config: TrainConfig, features: FeatureSet, history: Sequence[EpochRecord], projection: Projection
) -> None:
    """Write the plots and the model card."""
    with whole_file(output / LOSSES_PLOT) as file:
        _losses_figure(history).savefig(file, format="png", dpi=120)
    counts = history[-1].head_counts
    if counts is not None:
        with whole_file(output / HEADS_PLOT) as file:
            _heads_figure(counts).savefig(file, format="png", dpi=120)
    write_text(output / MODEL_CARD, _model_card(config, features, history, projection))


def _losses_figure(history: Sequence[EpochRecord]) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [record.epoch for record in history]
    curves: dict[str, list[float | None]] = {
        "training": [record.train_loss for record in history],
        "validation": [record.validation_loss for record in history],
        "validation, averaged attention": [record.validation_loss_average for record in history],
    }
    for label, values in curves.items():
        if any(value is not None for value in values):
            gaps = [math.nan if value is None else value for value in values]
            axes.plot(epochs, gaps, marker="." if len(epochs) < 20 else None, label=label)
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()
    return figure


def _heads_figure(counts: Sequence[int]) -> Figure:
    """Share of the captions that chose each head in the last epoch (Talk2DINO, Fig. 6)."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(counts)), 100 * np.asarray(counts) / sum(counts))
    axes.set(xlabel="attention head", ylabel="captions that chose it, %", xticks=range(len(counts)))
    return figure


def _model_card(
    config: TrainConfig, features: FeatureSet, history: Sequence[EpochRecord], projection: Projection
) -> str:
    facts, last = features.manifest, history[-1]
    validated = [record for record in history if record.validation_loss is not None]
    lines = [
        "# Talk2DINO projection",
        "",
        f"Brings the text features of `{facts.text}` and the patch tokens of `{facts.backbone}` into one space. "
        f"{type(projection).__name__}, {sum(p.numel() for p in projection.parameters()):,} parameters, in the layout "
        "of the authors' files: `t2d-export bundle --projection` takes `projection.pth` (the last epoch) as it is.",
        "",
        "## Data",
        f"- {facts.captions:,} captions of {facts.images:,} images, captions file sha256 `{facts.captions_sha256}`;",
        f"  {len(facts.skipped)} unreadable images were left out",
        f"- backbone weights sha256 `{facts.backbone_sha256}`, input {facts.input_size[0]} x {facts.input_size[1]}",
        f"- text tower weights sha256 `{facts.text_sha256}`",
        f"- encoders in {facts.precision}, features stored in {facts.dtype}",
        "",
        "## Settings",
        "```json",
        json.dumps(config.settings(), indent=1),
        "```",
        "",
        "## Figures",
        f"- {len(history)} epochs, {sum(record.seconds for record in history):.0f} s of training",
        f"- training loss of the last epoch {last.train_loss:.6g}",
    ]
    if validated:
        best = min(validated, key=lambda record: record.validation_loss or 0.0)
        lines += [
            f"- validation loss, same objective: last {last.validation_loss:.6g}, best {best.validation_loss:.6g} in "
            f"epoch {best.epoch} (`projection_best.pth`)",
        ]
    lines += [
        "",
        "## Versions",
        ", ".join([f"Python {platform.python_version()}", *(_version(package) for package in PACKAGES)]),
        "",
        "## What it is not",
        "A projection belongs to the two frozen towers named above, at about the input size named above; with others "
        "it gives noise. It was trained on captions: what they do not name it does not know.",
        "",
    ]
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} from source"
