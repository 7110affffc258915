"""Optimiser and learning rate of a run, as in `do_train` of the released code."""

from __future__ import annotations

import math

import torch
from torch import nn

from training.config import TrainConfig


def new_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW with torch's defaults, in the fused form, which only differs in speed."""
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    return torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Learning rate at a step (from 0) of `steps`: a linear warm-up, then constant or half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule != "cosine":
        return config.learning_rate
    progress = (step - config.warmup_steps) / (steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress)) * config.learning_rate
