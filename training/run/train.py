"""A training run: from a set of features to a projection and the files beside it.

`train` is also an API for other code: it takes a `TrainConfig` and returns the projection with its history. Under
torchrun, all processes train as one. An interrupted run that is started again continues from its last finished epoch
and ends with the same bits.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2d_export.model.projection import Projection
from t2d_runtime.errors import CheckpointError, NotFiniteError
from training.config import TrainConfig
from training.features.batches import shuffled
from training.features.feature_set import IndexArray
from training.folders import check_output_folder
from training.objective.distributed import process_group
from training.run.checkpoint import CHECKPOINT, EpochRecord, load_checkpoint, save_checkpoint
from training.run.report import write_head_choices, write_projection, write_report
from training.run.scalars import Scalars
from training.run.trainer import Trainer, in_caption_order
from training.storage import remove_leftovers

LAST_PROJECTION = "projection.pth"
BEST_PROJECTION = "projection_best.pth"
TENSORBOARD = "tensorboard"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Trained projections: that of the last epoch, as published, and that of the lowest validation loss."""

    projection: Projection
    history: list[EpochRecord]
    last_path: Path
    best_path: Path | None
    """File of the best projection; None without validation features."""


def train(config: TrainConfig) -> TrainResult:
    """Train a projection, or continue an interrupted run.

    Writes into `config.output`: the last and the best projection in the layout of the authors' files, a checkpoint, a
    model card, plots, head choices and TensorBoard scalars.
    Raises DataError for features that do not fit, CheckpointError where the folder holds another run, and OutputError
    where it cannot be written. Raises NotFiniteError at the first loss, gradient or feature that is not finite. The
    checkpoint is then that of the last epoch before, and no projection is written.
    """
    check_output_folder(config.output)
    with process_group() as (rank, world_size):
        return _Run(Trainer(config, rank, world_size)).finish()


class _Run:
    """The epochs of a run and their files. Only the process of rank 0 writes."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.config = trainer.config
        self.output = trainer.config.output
        self.history: list[EpochRecord] = []

    def finish(self) -> TrainResult:
        """Train the missing epochs and write the results."""
        if (self.output / CHECKPOINT).exists():
            self._take_up()
        with self._scalars() as scalars:
            for epoch in range(len(self.history) + 1, self.config.epochs + 1):
                heads = self._epoch(epoch, scalars)
                if self.trainer.rank == 0:
                    self._save(heads, scalars)
        projection = self.trainer.projection
        if self.trainer.rank == 0:
            write_projection(self.output / LAST_PROJECTION, projection)
            write_report(self.output, self.config, self.trainer.features, self.history, projection)
        best = self.output / BEST_PROJECTION if self.config.validation else None
        return TrainResult(projection, self.history, self.output / LAST_PROJECTION, best)

    def _take_up(self) -> None:
        trainer = self.trainer
        path = self.output / CHECKPOINT
        self.history = load_checkpoint(path, trainer.objective, trainer.optimizer, self._identity())
        done, wanted = len(self.history), self.config.epochs
        if done > wanted:
            raise CheckpointError(f"{path} has trained {done} epochs, asked for {wanted}: name another --output")
        logger.info("going on after epoch %d of %d", done, wanted)

    def _epoch(self, epoch: int, scalars: Scalars) -> IndexArray | None:
        """Train and validate one epoch; returns the heads that the captions chose, in their order."""
        trainer = self.trainer
        order = shuffled(len(trainer.features), self.config.seed, epoch)
        started, waited = time.perf_counter(), trainer.reader.wait_s
        try:
            trained = trainer.train_pass(order, epoch, scalars)
            seconds, waited = time.perf_counter() - started, trainer.reader.wait_s - waited
            validation = trainer.validate()
        except NotFiniteError as error:
            kept = f"{self.output / CHECKPOINT} holds epoch {epoch - 1}" if epoch > 1 else "nothing was saved"
            raise NotFiniteError(f"training stops without a projection: {error} ({kept})") from error
        heads = None if trained.heads is None else in_caption_order(trained.heads, order)
        num_heads = trainer.features.manifest.num_heads
        record = EpochRecord(
            epoch=epoch,
            learning_rate=trained.learning_rate,
            train_loss=trained.loss,
            validation_loss=validation[0] if validation else None,
            validation_loss_average=validation[1] if len(validation) > 1 else None,
            head_counts=None if heads is None else tuple(np.bincount(heads, minlength=num_heads).tolist()),
            seconds=seconds,
            wait_seconds=waited,
        )
        self.history.append(record)
        return heads

    def _save(self, heads: IndexArray | None, scalars: Scalars) -> None:
        """Write the files, the checkpoint last. If the process is killed before it, the epoch runs again."""
        record, trainer = self.history[-1], self.trainer
        remove_leftovers(self.output, CHECKPOINT)
        losses = [past.validation_loss for past in self.history if past.validation_loss is not None]
        if losses and losses[-1] == min(losses):
            write_projection(self.output / BEST_PROJECTION, trainer.projection)
        if heads is not None and record.epoch == self.config.epochs:
            write_head_choices(self.output, trainer.features.caption_ids, heads)
        save_checkpoint(self.output / CHECKPOINT, trainer.objective, trainer.optimizer, self._identity(), self.history)
        scalars.add_epoch(record)
        validation = "" if record.validation_loss is None else f", validation {record.validation_loss:.4e}"
        logger.info(
            "epoch %d of %d: loss %.4e%s, %.1f s, %.0f%% of it waiting for data",
            record.epoch,
            self.config.epochs,
            record.train_loss,
            validation,
            record.seconds,
            100 * record.wait_seconds / record.seconds,
        )

    def _identity(self) -> dict[str, Any]:
        """Facts that must not change between the parts of an interrupted run."""
        settings = self.config.settings()
        if self.config.schedule != "cosine":
            del settings["epochs"]  # more epochs may be added where that does not change the earlier ones
        manifest = dataclasses.asdict(self.trainer.features.manifest)
        names = ("backbone_sha256", "text_sha256", "captions_sha256", "input_size", "precision", "dtype", "captions")
        return settings | {name: manifest[name] for name in names}

    def _scalars(self) -> Scalars:
        folder = self.output / TENSORBOARD if self.trainer.rank == 0 else None
        return Scalars(folder, steps_per_epoch=len(self.trainer.reader), epochs_done=len(self.history))
