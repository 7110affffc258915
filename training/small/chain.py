"""Trains the small model from scratch.

It draws scenes, pre-trains both towers on them (`training.small.pretrain`) and freezes them. On fresh scenes it trains
the Talk2DINO projection with the real training code (`training.features.extraction`, `training.run.train`). It then
chooses the background threshold on validation scenes. The result is a folder for `t2d-export bundle --backbone`.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from safetensors.torch import save_file

from t2d_export.architectures.folder_model import PROJECTION
from t2d_export.model.projection import state_dict_in_authors_layout
from t2d_export.model.reference import load_reference
from training.config import FeatureConfig, TrainConfig
from training.drawing.scenes import draw_scenes, write_scenes
from training.features.extraction import extract
from training.folders import new_folder
from training.run.train import train
from training.small.card import model_card
from training.small.model import SMALL_MODEL, round_to_half, save_towers, write_config
from training.small.pretrain import collect, pretrain
from training.small.settings import TinySettings
from training.small.validation import Validation, validate


def train_tiny(output: Path, settings: TinySettings, seed: int) -> Validation:
    """Train the small model into the folder `output`, which appears whole or not at all.

    Raises OutputError where it exists already or cannot be written, and NotFiniteError where training diverges.
    """
    started = time.monotonic()
    with (
        new_folder(output) as folder,
        tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as work,
    ):
        scenes = draw_scenes(settings.pretrain_scenes, settings.pretrain_series)
        data = collect(scenes, SMALL_MODEL.patch_size)
        backbone, text = pretrain(SMALL_MODEL, settings.pretrain, data, seed)
        round_to_half(backbone)
        round_to_half(text)
        save_towers(folder, SMALL_MODEL, backbone, text)
        _train_projection(folder, Path(work), settings, seed)
        validation = validate(
            load_reference(backbone=str(folder)), settings.validation_scenes, settings.validation_series
        )
        config = dataclasses.replace(SMALL_MODEL, threshold=validation.threshold)
        write_config(folder, config)
        minutes = (time.monotonic() - started) / 60
        (folder / "README.md").write_text(model_card(config, settings, seed, validation, minutes))
    return validation


def _train_projection(folder: Path, work: Path, settings: TinySettings, seed: int) -> None:
    """Train as published on top of the frozen towers: max over heads, InfoNCE, fixed temperature."""
    write_scenes(work / "scenes", settings.projection_scenes, settings.projection_series)
    extract(FeatureConfig(captions=work / "scenes", output=work / "features", backbone=str(folder)))
    result = train(
        TrainConfig(
            features=work / "features",
            output=work / "projection",
            learning_rate=settings.learning_rate,
            schedule="cosine",
            epochs=settings.epochs,
            seed=seed,
        )
    )
    save_file(state_dict_in_authors_layout(result.projection), folder / PROJECTION)
