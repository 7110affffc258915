"""What a training run is: every choice of the paper's tables with the published defaults. Imports no torch."""

from __future__ import annotations

import dataclasses
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

Loss = Literal["infonce", "triplet"]
Optimizer = Literal["adam", "adamw"]
Schedule = Literal["constant", "warmup", "cosine"]

SELECTIONS: tuple[Selection, ...] = get_args(Selection)

SINGLE_VECTOR: frozenset[Selection] = frozenset({"average", "cls"})
"""Selections over one image vector: the one of the averaged attention map, the CLS token."""

CHOOSES_HEAD: frozenset[Selection] = frozenset({"max_score", "sampled"})
"""Selections that take one head for each pair."""

OVER_TOKENS: frozenset[Selection] = frozenset({"sum", "mean", "max-row_sum", "nucleus"})
"""Selections that may also take every token of a text."""


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
