"""Settings of feature extraction and of training, with the published defaults. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from t2d_runtime.errors import OptionError

Selection = Literal["max_score", "weighted_avg", "sampled", "average", "cls", "sum", "mean", "max-row_sum", "nucleus"]
"""The way the heads of an image (and the tokens of a text) become one score: see `training/objective/heads.py`."""

ProjectionKind = Literal["text", "affine", "visual", "visual_affine", "both", "last_block"]
"""The projected side and its map: `t2d_export/model/projection.py`. `last_block` also trains CLIP's last block."""

TextInput = Literal["end", "average", "tokens"]
"""The vectors of a text: the feature of its end token, the mean over its words, or every word."""

TokenArray = Literal["tokens", "penultimate"]
"""Optional feature arrays with every token of a text: see `training/features/feature_set.py`."""

Loss = Literal["infonce", "triplet"]
Optimizer = Literal["adam", "adamw"]
Schedule = Literal["constant", "warmup", "cosine"]

PRECISIONS, DTYPES = ("fp32", "bf16"), ("float32", "float16")
"""Precisions of an extraction's encoders, and types of the features that it stores."""

MAX_SEED = 2**32 - 1
"""Largest seed that NumPy's and torch's generators accept, also multiplied by a million for an epoch's draws."""

MAX_INPUT_SIDE = 8192
"""Longest side of an encoder's input, in pixels. Attention runs out of memory long before."""

MAX_WORKERS = 256
"""Most processes that may load images."""

SELECTIONS: tuple[Selection, ...] = get_args(Selection)

SINGLE_VECTOR: frozenset[Selection] = frozenset({"average", "cls"})
"""Selections with one image vector: that of the averaged attention map, or the CLS token."""

OVER_TOKENS: frozenset[Selection] = frozenset({"sum", "mean", "max-row_sum", "nucleus"})
"""Selections that also accept every token of a text."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Settings of an extraction. Weights and input size as in `t2d-export bundle`; defaults as released."""

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
    """Precision of the encoders, one of PRECISIONS."""
    dtype: str = "float32"
    """Type of the stored features, one of DTYPES."""
    max_unreadable: float = 1.0
    """Largest share (0 to 1) of unreadable images; above it the extraction stops with an error."""
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
    """Settings of a training run. The defaults are those of the published projection (Talk2DINO, Sec. 4.1)."""

    features: Path
    output: Path
    validation: Path | None = None
    selection: Selection = "max_score"
    projection: ProjectionKind = "text"
    text_input: TextInput = "end"
    loss: Loss = "infonce"
    over_batch_squared: bool = True
    """True divides the loss by B², as the released code does. With Adam this matters only beside its epsilon."""
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    """Weight decay of AdamW, as released. Adam has none."""
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    batch_size: int = 128
    """Captions in a batch, over all processes together."""
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
        """Settings that decide the result, for checkpoints and model cards: every field except paths and device."""
        values = dataclasses.asdict(self)
        for place in ("features", "output", "validation", "device"):
            del values[place]
        return values


def check_seed(seed: int) -> None:
    """Raise OptionError for a seed that the generators do not accept."""
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
