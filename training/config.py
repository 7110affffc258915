"""The settings of an extraction of features and of a training run, with the published defaults. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from t2d_runtime.errors import OptionError

Selection = Literal["max_score", "weighted_avg", "sampled", "average", "cls", "sum", "mean", "max-row_sum", "nucleus"]
"""How the heads of an image (and the tokens of a text) become one score: `training/objective/heads.py`."""

ProjectionKind = Literal["text", "affine", "visual", "visual_affine", "both", "last_block"]
"""Which side is projected and how: `t2d_export/model/projection.py`. `last_block` also trains CLIP's last block."""

TextInput = Literal["end", "average", "tokens"]
"""The vector that stands for a text: the feature at its end token, the mean over its words, or every word."""

TokenArray = Literal["tokens", "penultimate"]
"""Arrays of every token of a text that features may hold: `training/features/feature_set.py`."""

Loss = Literal["infonce", "triplet"]
Optimizer = Literal["adam", "adamw"]
Schedule = Literal["constant", "warmup", "cosine"]

PRECISIONS, DTYPES = ("fp32", "bf16"), ("float32", "float16")
"""Precisions of an extraction's encoders, and types of the features that it stores."""

MAX_SEED = 2**32 - 1
"""Largest seed: NumPy's and torch's generators both take it, also multiplied by a million for an epoch's draws."""

MAX_INPUT_SIDE = 8192
"""Longest side of an encoder's input, in pixels: attention over all its patches fits no memory long before."""

MAX_WORKERS = 256
"""Most processes that may load images."""

SELECTIONS: tuple[Selection, ...] = get_args(Selection)

SINGLE_VECTOR: frozenset[Selection] = frozenset({"average", "cls"})
"""Selections over one image vector: the one of the averaged attention map, the CLS token."""

OVER_TOKENS: frozenset[Selection] = frozenset({"sum", "mean", "max-row_sum", "nucleus"})
"""Selections that may also take every token of a text."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """An extraction. Weights and input size as in `t2d-export bundle`; the defaults are those of the release."""

    captions: Path
    output: Path
    images: Path | None = None
    backbone: str = "dinov2_vitb14_reg"
    backbone_weights: str | None = None
    text_weights: str | None = None
    text_activation: Literal["quick_gelu", "gelu"] | None = None
    input_size: tuple[int, int] | None = None
    token_arrays: tuple[TokenArray, ...] = ()
    precision: str = "fp32"
    """Of the encoders."""
    dtype: str = "float32"
    """Of what is stored."""
    max_unreadable: float = 1.0
    """Share (0 to 1) of the images that may be unreadable before the extraction is given up."""
    batch_size: int = 32
    images_per_shard: int = 1024
    workers: int = max(1, (os.cpu_count() or 2) // 2)
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS or self.dtype not in DTYPES:
            raise OptionError(
                f"expected precision {' or '.join(PRECISIONS)} and dtype {' or '.join(DTYPES)}, got "
                f"{self.precision!r} and {self.dtype!r}"
            )
        if min(self.batch_size, self.images_per_shard) < 1 or not 0 <= self.workers <= MAX_WORKERS:
            raise OptionError(
                f"expected batch_size and images_per_shard of at least 1 and workers of 0 to {MAX_WORKERS}, got "
                f"{self.batch_size}, {self.images_per_shard} and {self.workers}"
            )
        if not 0 <= self.max_unreadable <= 1:
            raise OptionError(f"max_unreadable: expected a share of 0 to 1, got {self.max_unreadable}")
        if self.input_size is not None and not all(1 <= side <= MAX_INPUT_SIDE for side in self.input_size):
            raise OptionError(
                f"input_size: expected sides of 1 to {MAX_INPUT_SIDE} pixels, got "
                f"{' x '.join(map(str, self.input_size))}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run. The defaults are those of the published projection (Talk2DINO, Sec. 4.1)."""

    features: Path
    output: Path
    validation: Path | None = None
    selection: Selection = "max_score"
    projection: ProjectionKind = "text"
    text_input: TextInput = "end"
    loss: Loss = "infonce"
    over_batch_squared: bool = True
    """Whether to divide the loss by B², as the released code does. With Adam this matters only beside its epsilon."""
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    """Of AdamW alone, as released."""
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    batch_size: int = 128
    """Of all processes together."""
    epochs: int = 100
    seed: int = 123
    device: str = "cpu"

    def __post_init__(self) -> None:
        for field in ("selection", "projection", "text_input", "loss", "optimizer", "schedule"):
            allowed = get_args(_CHOICES[field])
            if getattr(self, field) not in allowed:
                raise OptionError(f"{field}: expected one of {', '.join(allowed)}, got {getattr(self, field)!r}")
        if self.batch_size < 2 or self.epochs < 1 or self.warmup_steps < 0:
            raise OptionError(
                "expected batch_size >= 2, epochs >= 1 and warmup_steps >= 0, got "
                f"{self.batch_size}, {self.epochs} and {self.warmup_steps}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise OptionError(f"learning_rate: expected a number above 0, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise OptionError(f"weight_decay: expected a number of at least 0, got {self.weight_decay}")
        check_seed(self.seed)
        if self.optimizer != "adamw" and self.weight_decay != TrainConfig.weight_decay:
            raise OptionError(
                f"weight_decay {self.weight_decay} has no effect with the optimizer {self.optimizer!r}; give 'adamw', "
                "or leave it out"
            )
        if (self.schedule == "warmup") != (self.warmup_steps > 0) and self.schedule != "cosine":
            raise OptionError(
                f"schedule {self.schedule!r} with warmup_steps {self.warmup_steps}: 'warmup' takes a number of "
                "steps, 'constant' takes none"
            )
        if self.text_input == "tokens" and (self.selection not in OVER_TOKENS):
            raise OptionError(
                f"text_input 'tokens' takes a selection of {', '.join(sorted(OVER_TOKENS))}, got {self.selection!r}"
            )
        if self.projection == "last_block" and self.text_input != "end":
            raise OptionError(f"projection 'last_block' ends at the end token; got text_input {self.text_input!r}")

    def settings(self) -> dict[str, Any]:
        """All that decides the result, for checkpoints and model cards: every field but the paths and the device."""
        values = dataclasses.asdict(self)
        for place in ("features", "output", "validation", "device"):
            del values[place]
        return values


def check_seed(seed: int) -> None:
    """Raise OptionError for a seed that the generators do not take."""
    if not 0 <= seed <= MAX_SEED:
        raise OptionError(f"seed: expected 0 to {MAX_SEED}, got {seed}")


_CHOICES: dict[str, Any] = {
    "selection": Selection,
    "projection": ProjectionKind,
    "text_input": TextInput,
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": Schedule,
}
