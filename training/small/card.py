"""The model card of the small model."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from importlib.metadata import version
from typing import Final

from t2d_export.architectures.folder_model import FolderConfig
from training.drawing.concepts import CONCEPTS
from training.small.settings import TinySettings
from training.small.validation import Validation

PACKAGES: Final = ("torch", "timm", "open_clip_torch", "numpy", "pillow")


def model_card(config: FolderConfig, settings: TinySettings, seed: int, validation: Validation, minutes: float) -> str:
    """The text of README.md beside the weights."""
    text, pretraining = config.text, settings.pretrain
    return f"""# The small Talk2DINO model

Written by `python -m training tiny --seed {seed} --output FOLDER`;
`t2d-export bundle --backbone FOLDER --output BUNDLE` makes a bundle of it.
It exists because published weights cannot be shipped here: it is small enough to train on two CPU cores and good
enough that its masks mean something, on drawn scenes.

## What it is
- Backbone: DINOv2's architecture, patch {config.patch_size}, width {config.embed_dim}, {config.depth} blocks,
  {config.num_heads} heads, {config.num_register_tokens} registers, LayerScale, input {config.image_size} x \
{config.image_size} pixels.
- Text tower: CLIP's architecture and tokenizer, width {text.width}, {text.layers} blocks,
  {text.heads} heads, QuickGELU.
- Projection: Talk2DINO's, {text.embed_dim} -> {config.embed_dim} -> {config.embed_dim} with a tanh between.
- Towers are stored in float16 and used in float32; the projection is stored in float32.

## Data
Procedurally drawn scenes alone (`training/scenes.py`), no photograph, six captions each:
- series {settings.pretrain_series}, {settings.pretrain_scenes} scenes: pre-training of the towers
- series {settings.projection_series}, {settings.projection_scenes} scenes: the projection
- series {settings.validation_series}, {settings.validation_scenes} scenes: the threshold

Concepts: {", ".join(CONCEPTS)}.

## Training
1. Both towers from scratch, {pretraining.steps} steps of {pretraining.batch_size} scenes. The generator's
   *regions* (which pixels are one object) are used, to pool and to sharpen patch features. **Label maps are not used in
   training: what a region is called comes from captions alone**, as nouns that a lexicon of the concepts' words and
   their synonyms finds in them. The losses: `training/small/losses.py`.
2. Both towers frozen, then the Talk2DINO projection on head embeddings: maximum over heads, InfoNCE at the fixed
   temperature 0.07, Adam with a cosine rate, {settings.epochs} epochs (`training.features.extraction`,
   `training.run.train`).
3. The background threshold, {config.threshold}, is the best on the validation scenes, whose label maps serve
   that alone.

```json
{json.dumps(dataclasses.asdict(settings), indent=1)}
```

## Figures
On the validation scenes, without PAMR: mIoU {validation.present:.3f} with the words of what is in each scene;
{validation.background:.3f} with half of these words and background, official cleaning (the threshold was chosen
there).
Training took {minutes:.0f} minutes on {os.cpu_count()} CPU cores.

## Versions
Python {platform.python_version()}, {", ".join(f"{package} {version(package)}" for package in PACKAGES)}.

## What it is not
Not a model of photographs: it knows drawn scenes and {len(CONCEPTS)} concepts, and other words give noise. Not DINOv2
and not CLIP: it has their architectures, none of their weights and nothing of what they learned.
"""
