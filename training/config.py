"""What an extraction of features and a training run are, with the published defaults. Imports no torch."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from t2d_runtime.errors import OptionError

Selection = Literal["max_score", "weighted_avg", "sampled", "average", "cls", "sum", "mean", "max-row_sum", "nucleus"]
"""How the heads of an image (and the tokens of a text) become one score: `training/heads.py`."""

ProjectionKind = Literal["text", "affine", "visual", "visual_affine", "both", "last_block"]
"""Which side is projected and how: `t2d_export/projection.py`. `last_block` also trains CLIP's last block."""

TextInput = Literal["end", "average", "tokens"]
"""What stands for a text: the feature at its end token, the mean over its words, or every word."""

TokenArray = Literal["tokens", "penultimate"]
"""What features may hold of every token of a text: `training/feature_set.py`."""

Loss = Literal["infonce", "triplet"]
Optimizer = Literal["adam", "adamw"]
Schedule = Literal["constant", "warmup", "cosine"]

PRECISIONS, DTYPES = ("fp32", "bf16"), ("float32", "float16")
"""Of an extraction's encoders, and of the features that it stores."""

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
    input_size: tuple[int, int] | None = None
    token_arrays: tuple[TokenArray, ...] = ()
    precision: str = "fp32"
    """Of the encoders."""
    dtype: str = "float32"
    """Of what is stored."""
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
        if min(self.batch_size, self.images_per_shard) < 1 or self.workers < 0:
            raise OptionError(
                "expected batch_size and images_per_shard of at least 1 and workers of at least 0, got "
                f"{self.batch_size}, {self.images_per_shard} and {self.workers}"
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
    """The released code divides either loss by B², which beside Adam's epsilon changes nothing."""
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
        if self.batch_size < 2 or self.epochs < 1 or self.warmup_steps < 0 or not self.learning_rate > 0:
            raise OptionError(
                "expected batch_size >= 2, epochs >= 1, warmup_steps >= 0 and learning_rate > 0, got "
                f"{self.batch_size}, {self.epochs}, {self.warmup_steps} and {self.learning_rate}"
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
        """All that decides the result, for checkpoints and model cards: everything but the paths and device."""
        values = dataclasses.asdict(self)
        for place in ("features", "output", "validation", "device"):
            del values[place]
        return values


_CHOICES: dict[str, Any] = {
    "selection": Selection,
    "projection": ProjectionKind,
    "text_input": TextInput,
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": Schedule,
}
