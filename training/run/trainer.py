"""One process's part of training: features, projection, optimiser, and the passes over the data."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from tqdm import tqdm

from t2d_export.model.projection import Projection
from t2d_runtime.errors import DataError, NotFiniteError
from training.config import Selection, TrainConfig
from training.device import open_device
from training.features.batches import Batch, BatchReader, FeatureChoice
from training.features.feature_set import FeatureSet, IndexArray
from training.features.finite import not_finite_feature
from training.objective.distributed import first_said, sum_gradients
from training.objective.objective import Objective, new_projection
from training.run.optimization import learning_rate, new_optimizer
from training.run.scalars import Scalars

LOG_EVERY = 50
"""Steps between two losses shown in TensorBoard and the progress bar."""


LOWER_RATE = "the features are finite; give a lower --learning-rate"


class Pass(NamedTuple):
    """Result of a pass over training data: mean loss of its batches, and heads (captions,) in the pass's order."""

    loss: float
    heads: IndexArray | None
    learning_rate: float


class Trainer:
    """Features, projection and optimiser of a run; `rank` of `world_size` processes that train as one."""

    def __init__(self, config: TrainConfig, rank: int = 0, world_size: int = 1) -> None:
        """Open the features and draw the projection. Raises DataError, OptionError."""
        self.config = config
        self.rank = rank
        self.world_size = world_size
        self.device = open_device(config.device)
        self.features = FeatureSet(config.features)
        if len(self.features) < 2:
            raise DataError(f"{config.features}: {len(self.features)} captions; training takes at least two")
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
        """The projection in training."""
        return self.objective.projection

    def train_pass(self, order: IndexArray, epoch: int, scalars: Scalars) -> Pass:
        """Train on the captions in `order`, (captions,) int64.

        `epoch`, from 1, decides the learning rates and random draws.
        Raises NotFiniteError at the first loss or gradient that is not finite, before the weights change, and at the
        end where the weights are not finite.
        """
        config, batches = self.config, len(self.reader)
        # Every epoch has its own draws, so that it can be repeated.
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
            try:
                loss, chosen = self._step(batch, size, rate, generator)
            except NotFiniteError as error:
                raise NotFiniteError(f"epoch {epoch}, batch {number + 1} of {count}: {error}") from error
            total += loss
            if chosen is not None:
                heads.append(chosen)
            if number % LOG_EVERY == 0:
                bar.set_postfix(loss=f"{loss.item():.3e}", refresh=False)
                scalars.add("train/batch_loss", loss.item(), step)
        length = float(get_total_norm(self.objective.parameters()))
        if not math.isfinite(length):
            raise NotFiniteError(f"epoch {epoch}: the length of the weights is {length}; give a lower --learning-rate")
        return Pass((total / count).item(), torch.cat(heads).cpu().numpy() if heads else None, rate)

    @torch.no_grad()
    def validate(self) -> list[float]:
        """Mean losses over the validation set: with the trained objective, and with averaged attention.

        Raises NotFiniteError where one is not finite.
        """
        self.objective.eval()
        means = []
        for objective, reader in self.validation:
            generator = torch.Generator(self.device).manual_seed(self.config.seed)
            losses = []
            for batch in reader.epoch():
                scores = objective.scores(_to_device(batch, self.device), generator=generator)
                losses.append(objective.loss(scores.matrix).item())
                if not (batch.finite and math.isfinite(losses[-1])):
                    reason = not_finite_feature(reader.features, reader.choice, batch.captions)
                    raise NotFiniteError(reason or f"the validation loss is {losses[-1]}: {LOWER_RATE}")
            means.append(math.fsum(losses) / len(losses))
        return means

    def _step(self, batch: Batch, size: int, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Take one step on a batch of `size` captions in all processes; returns its loss and the chosen heads.

        All processes compute the loss of the whole batch and sum their gradients, so that they stop at the same step.
        """
        scores = self.objective.scores(
            _to_device(batch, self.device), total=size, world_size=self.world_size, generator=generator
        )
        loss = self.objective.loss(scores.matrix)
        if not loss.isfinite():
            self._stop("loss", loss, batch)
        self.optimizer.zero_grad(set_to_none=True)
        # A NaN feature may leave the loss finite. All processes see it in the gradient.
        torch.autograd.backward(loss if batch.finite else loss * math.nan)
        sum_gradients(self.objective.parameters(), self.world_size)
        gradient = get_total_norm(p.grad for p in self.objective.parameters() if p.grad is not None)
        if not gradient.isfinite():
            self._stop("length of the gradient", gradient, batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.detach(), scores.head_index

    def _stop(self, name: str, value: Tensor, batch: Batch) -> NoReturn:
        reason = not_finite_feature(self.features, self.reader.choice, batch.captions)
        raise NotFiniteError(f"the {name} is {value.item()}: {first_said(reason, self.world_size) or LOWER_RATE}")

    def _objective(self, projection: Projection, selection: Selection) -> Objective:
        config = self.config
        objective = Objective(projection, selection, config.loss, over_batch_squared=config.over_batch_squared)
        return objective.to(self.device)

    def _add_validation(self, features: FeatureSet, choice: FeatureChoice) -> None:
        """Add a validation set. Every process validates on the whole set, so that all have the same losses."""
        self.features.require_same_model(features)
        if not len(features):
            raise DataError(f"{features.folder} has no captions to validate on")
        self.validation.append((self.objective, BatchReader(features, choice, self.config.batch_size)))
        if choice.token_array != "tokens":
            averaged = dataclasses.replace(choice, visual="average")
            objective = self._objective(self.projection, "average")
            self.validation.append((objective, BatchReader(features, averaged, self.config.batch_size)))


def in_caption_order(heads: IndexArray, order: IndexArray) -> IndexArray:
    """Heads reordered from the order of a pass to that of the captions."""
    sorted_heads = np.empty_like(heads)
    sorted_heads[order] = heads
    return sorted_heads


def _to_device(batch: Batch, device: torch.device) -> Batch:
    lengths = None if batch.lengths is None else batch.lengths.to(device)
    return batch._replace(visual=batch.visual.to(device), text=batch.text.to(device), lengths=lengths)
