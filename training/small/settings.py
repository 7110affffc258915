"""Settings of a run of `python -m training tiny`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class PretrainSettings:
    """Steps and sizes of pre-training.

    Steps see `kept_patches` of an image's patches. The last steps, a share of `full_share`, see all of them.
    """

    steps: int = 2800
    batch_size: int = 32
    kept_patches: int = 96
    full_share: float = 0.15
    learning_rate: float = 1.2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    attention_weight: float = 0.5
    caption_weight: float = 0.5


@dataclass(frozen=True)
class TinySettings:
    """Sizes of the run. Series are seeds of scenes; held-out scenes use other seeds."""

    pretrain_scenes: int = 8000
    pretrain_series: int = 1
    projection_scenes: int = 3000
    projection_series: int = 2
    validation_scenes: int = 200
    validation_series: int = 3
    epochs: int = 30
    learning_rate: float = 1e-3
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)


QUICK: Final = TinySettings(
    pretrain_scenes=24,
    projection_scenes=16,
    validation_scenes=3,
    epochs=1,
    pretrain=PretrainSettings(steps=3, batch_size=8, warmup_steps=1, full_share=0.34),
)
"""A run of the whole chain in seconds, to test that it works. Its masks mean nothing."""
