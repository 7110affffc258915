"""The training loop: a projection from a set of features.

`train` is also the API of other code: it takes a `TrainConfig` and returns the projection with its history. Run
under torchrun, all processes train as one. A run that was interrupted goes on from its last finished epoch when it
is started again, and ends with the same bits.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from t2d_export.projection import Projection
from t2d_runtime.errors import CheckpointError, OptionError
from training.batches import Batch, BatchReader, FeatureChoice, shuffled
from training.checkpoint import CHECKPOINT, EpochRecord, load_checkpoint, save_checkpoint
from training.config import CHOOSES_HEAD, Selection, TrainConfig
from training.distributed import process_group, sum_gradients
from training.feature_set import FeatureSet, IndexArray
from training.objective import Objective, new_projection
from training.optimization import learning_rate, new_optimizer
from training.report import write_head_choices, write_projection, write_report
from training.scalars import Scalars
from training.storage import remove_leftovers

LAST_PROJECTION = "projection.pth"
BEST_PROJECTION = "projection_best.pth"
TENSORBOARD = "tensorboard"

LOG_EVERY = 50
"""Steps between the losses that TensorBoard and the progress bar show."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """A trained projection: that of the last epoch, as published, and the one of the lowest validation loss."""

    projection: Projection
    history: list[EpochRecord]
    last_path: Path
    best_path: Path | None
    """None without validation features."""


def train(config: TrainConfig) -> TrainResult:
    """Train, or go on training, what `config` says.

    Writes into `config.output`: the projection in the layout of the authors' files, last and best, a checkpoint, a
    model card, plots, head choices and TensorBoard scalars.
    Raises DataError for features that do not fit, CheckpointError where the folder holds another run, OutputError
    where it cannot be written.
    """
    with process_group() as (rank, world_size):
        return _Run(config, rank, world_size).train()


class _Run:
    """One process's side of a run."""

    def __init__(self, config: TrainConfig, rank: int, world_size: int) -> None:
        self.config = config
        self.rank = rank
        self.world_size = world_size
        self.device = _device(config.device)
        self.features = FeatureSet(config.features)
        choice = FeatureChoice.of(config.selection, config.projection, config.text_input)
        self.reader = self._reader(self.features, choice)
        self.validation: list[tuple[Objective, BatchReader]] = []
        projection = new_projection(config.projection, config.features, self.features.manifest, config.seed)
        self.objective = self._objective(projection)
        if config.validation is not None:
            self._add_validation(FeatureSet(config.validation), choice)
        self.optimizer = new_optimizer(config, self.objective)
        self.history: list[EpochRecord] = []
        self.chosen: IndexArray | None = None
        """Heads of the last epoch that was trained here, in the order of the captions."""

    def train(self) -> TrainResult:
        config = self.config
        checkpoint = config.output / CHECKPOINT
        if checkpoint.exists():
            self.history = load_checkpoint(checkpoint, self.objective, self.optimizer, self._run())
            if len(self.history) > config.epochs:
                raise CheckpointError(
                    f"{checkpoint} has trained {len(self.history)} epochs, asked for {config.epochs}: name another "
                    "--output"
                )
            logger.info("going on after epoch %d of %d", len(self.history), config.epochs)
        if self.rank == 0:
            remove_leftovers(config.output)
        with self._scalars() as scalars:
            for epoch in range(len(self.history) + 1, config.epochs + 1):
                self._epoch(epoch, scalars)
                if self.rank == 0:
                    self._save(scalars)
        if self.rank == 0:
            self._save_last()
        best = config.output / BEST_PROJECTION
        return TrainResult(
            self.objective.projection,
            self.history,
            config.output / LAST_PROJECTION,
            best if self.validation else None,
        )

    def _epoch(self, epoch: int, scalars: Scalars) -> None:
        config, reader = self.config, self.reader
        order = shuffled(len(self.features), config.seed, epoch)
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + epoch)
        heads: list[Tensor] = []
        total_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        started, waited = time.perf_counter(), reader.wait_s
        self.objective.train()
        bar = tqdm(
            reader.epoch(order),
            total=len(reader),
            desc=f"epoch {epoch}/{config.epochs}",
            unit="batch",
            disable=self.rank > 0 or None,
        )
        rate = config.learning_rate
        for number, batch in enumerate(bar):
            step = (epoch - 1) * len(reader) + number
            rate = learning_rate(config, step, config.epochs * len(reader))
            size = min(config.batch_size, len(order) - number * config.batch_size)
            loss, chosen = self._step(batch, size, rate, generator)
            total_loss += loss
            if chosen is not None:
                heads.append(chosen)
            if number % LOG_EVERY == 0:
                bar.set_postfix(loss=f"{loss.item():.3e}", refresh=False)
                scalars.add("train/batch_loss", loss.item(), step)
        seconds, waited = time.perf_counter() - started, reader.wait_s - waited
        validation = self._validate()
        self.chosen = _in_caption_order(heads, order) if heads else None
        self.history.append(
            EpochRecord(
                epoch=epoch,
                learning_rate=rate,
                train_loss=(total_loss / len(reader)).item(),
                validation_loss=validation[0] if validation else None,
                validation_loss_average=validation[1] if len(validation) > 1 else None,
                head_counts=self._head_counts(),
                seconds=seconds,
                wait_seconds=waited,
            )
        )

    def _step(self, batch: Batch, size: int, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
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

    @torch.no_grad()
    def _validate(self) -> list[float]:
        """Mean losses of every validation objective over the whole validation set, on every process alike."""
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

    def _save(self, scalars: Scalars) -> None:
        """Best projection first: were the process killed before the checkpoint, the epoch would run again."""
        record = self.history[-1]
        losses = [past.validation_loss for past in self.history if past.validation_loss is not None]
        if losses and losses[-1] <= min(losses):
            write_projection(self.config.output / BEST_PROJECTION, self.objective.projection)
        save_checkpoint(self.config.output / CHECKPOINT, self.objective, self.optimizer, self._run(), self.history)
        scalars.add_epoch(record)
        logger.info("epoch %d: %s", record.epoch, record)

    def _save_last(self) -> None:
        output = self.config.output
        write_projection(output / LAST_PROJECTION, self.objective.projection)
        if self.chosen is not None:
            write_head_choices(output, self.features.caption_ids, self.chosen)
        write_report(output, self.config, self.features, self.history, self.objective.projection)

    def _run(self) -> dict[str, Any]:
        """What must not change between the parts of an interrupted run."""
        settings = self.config.settings()
        if self.config.schedule != "cosine":
            del settings["epochs"]  # a run may be prolonged where that does not change its earlier epochs
        manifest = dataclasses.asdict(self.features.manifest.plan())
        names = ("backbone_sha256", "text_sha256", "captions_sha256", "input_size", "precision", "dtype")
        return settings | {name: manifest[name] for name in names} | {"captions": len(self.features)}

    def _reader(self, features: FeatureSet, choice: FeatureChoice) -> BatchReader:
        return BatchReader(features, choice, self.config.batch_size, rank=self.rank, world_size=self.world_size)

    def _objective(self, projection: Projection, selection: Selection | None = None) -> Objective:
        config = self.config
        return Objective(
            projection, selection or config.selection, config.loss, over_batch_squared=config.over_batch_squared
        ).to(self.device)

    def _add_validation(self, features: FeatureSet, choice: FeatureChoice) -> None:
        self.features.require_same_model(features)
        size = self.config.batch_size
        self.validation.append((self.objective, BatchReader(features, choice, size)))
        if choice.token_array != "tokens":
            averaged = dataclasses.replace(choice, visual="average")
            objective = self._objective(self.objective.projection, "average")
            self.validation.append((objective, BatchReader(features, averaged, size)))

    def _head_counts(self) -> tuple[int, ...] | None:
        if self.chosen is None or self.config.selection not in CHOOSES_HEAD:
            return None
        return tuple(np.bincount(self.chosen, minlength=self.features.manifest.num_heads).tolist())

    def _scalars(self) -> Scalars:
        folder = self.config.output / TENSORBOARD if self.rank == 0 else None
        return Scalars(folder, steps_per_epoch=len(self.reader), epochs_done=len(self.history))


def _device(name: str) -> torch.device:
    if name not in ("cpu", "cuda"):
        raise OptionError(f"device: expected cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("device 'cuda' was asked for and torch sees none here; give 'cpu'")
    return torch.device(name)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    lengths = None if batch.lengths is None else batch.lengths.to(device)
    return batch._replace(visual=batch.visual.to(device), text=batch.text.to(device), lengths=lengths)


def _in_caption_order(heads: list[Tensor], order: IndexArray) -> IndexArray:
    chosen = np.empty(len(order), dtype=np.int64)
    chosen[order] = torch.cat(heads).cpu().numpy()
    return chosen
