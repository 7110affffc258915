"""One process's part of training: features, projection and optimiser, and the passes over the data."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from t2d_export.model.projection import Projection
from training.config import Selection, TrainConfig
from training.device import open_device
from training.features.batches import Batch, BatchReader, FeatureChoice
from training.features.feature_set import FeatureSet, IndexArray
from training.objective.distributed import sum_gradients
from training.objective.objective import Objective, new_projection
from training.run.optimization import learning_rate, new_optimizer
from training.run.scalars import Scalars

LOG_EVERY = 50
"""Steps between the losses that TensorBoard and the progress bar show."""


class Pass(NamedTuple):
    """A pass over training data: mean loss of its batches, and heads (captions,) in the order of the pass."""

    loss: float
    heads: IndexArray | None
    learning_rate: float


class Trainer:
    """What is trained, with what; `rank` of `world_size` processes that train as one."""

    def __init__(self, config: TrainConfig, rank: int = 0, world_size: int = 1) -> None:
        """Open the features and draw the projection. Raises DataError, OptionError."""
        self.config = config
        self.rank = rank
        self.world_size = world_size
        self.device = open_device(config.device)
        self.features = FeatureSet(config.features)
        choice = FeatureChoice.of(config.selection, config.projection, config.text_input)
        self.reader = BatchReader(self.features, choice, config.batch_size, rank=rank, world_size=world_size)
        projection = new_projection(config.projection, config.features, self.features.manifest, config.seed)
        self.objective = self._objective(projection, config.selection)
        self.optimizer = new_optimizer(config, self.objective)
        self.validation: list[tuple[Objective, BatchReader]] = []
        if config.validation is not None:
            self._add_validation(FeatureSet(config.validation), choice)

    @property
    def projection(self) -> Projection:
        """What is being trained."""
        return self.objective.projection

    def train_pass(self, order: IndexArray, epoch: int, scalars: Scalars) -> Pass:
        """Train on the captions in `order`; `epoch`, from 1, places it among the learning rates and random draws."""
        config, batches = self.config, len(self.reader)
        # Every epoch has its own draws, so that it can be taken up again.
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + epoch)
        heads: list[Tensor] = []
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        rate = config.learning_rate
        self.objective.train()
        count = math.ceil(len(order) / config.batch_size)
        title = f"epoch {epoch}/{config.epochs}"
        bar = tqdm(self.reader.epoch(order), title, count, unit="batch", disable=self.rank > 0 or None)
        for number, batch in enumerate(bar):
            step = (epoch - 1) * batches + number
            rate = learning_rate(config, step, config.epochs * batches)
            size = min(config.batch_size, len(order) - number * config.batch_size)
            loss, chosen = self._step(batch, size, rate, generator)
            total += loss
            if chosen is not None:
                heads.append(chosen)
            if number % LOG_EVERY == 0:
                bar.set_postfix(loss=f"{loss.item():.3e}", refresh=False)
                scalars.add("train/batch_loss", loss.item(), step)
        return Pass((total / count).item(), torch.cat(heads).cpu().numpy() if heads else None, rate)

    @torch.no_grad()
    def validate(self) -> list[float]:
        """Mean losses over the validation set of the objective that is trained, and with averaged attention."""
        self.objective.eval()
        means = []
        for objective, reader in self.validation:
            generator = torch.Generator(self.device).manual_seed(self.config.seed)
            losses = [
                objective.loss(objective.scores(_to_device(batch, self.device), generator=generator).matrix).item()
                for batch in reader.epoch()
            ]
            means.append(math.fsum(losses) / len(losses))
        return means

    def _step(self, batch: Batch, size: int, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """One step on a batch of `size` captions in all processes: its loss and the chosen heads."""
        scores = self.objective.scores(
            _to_device(batch, self.device), total=size, world_size=self.world_size, generator=generator
        )
        loss = self.objective.loss(scores.matrix)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        sum_gradients(self.objective.parameters(), self.world_size)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.detach(), scores.head_index

    def _objective(self, projection: Projection, selection: Selection) -> Objective:
        config = self.config
        objective = Objective(projection, selection, config.loss, over_batch_squared=config.over_batch_squared)
        return objective.to(self.device)

    def _add_validation(self, features: FeatureSet, choice: FeatureChoice) -> None:
        """Every process validates on the whole set, so that all know the same losses."""
        self.features.require_same_model(features)
        self.validation.append((self.objective, BatchReader(features, choice, self.config.batch_size)))
        if choice.token_array != "tokens":
            averaged = dataclasses.replace(choice, visual="average")
            objective = self._objective(self.projection, "average")
            self.validation.append((objective, BatchReader(features, averaged, self.config.batch_size)))


def in_caption_order(heads: IndexArray, order: IndexArray) -> IndexArray:
    """Heads in the order of a pass -> in the order of the captions."""
    sorted_heads = np.empty_like(heads)
    sorted_heads[order] = heads
    return sorted_heads


def _to_device(batch: Batch, device: torch.device) -> Batch:
    lengths = None if batch.lengths is None else batch.lengths.to(device)
    return batch._replace(visual=batch.visual.to(device), text=batch.text.to(device), lengths=lengths)
