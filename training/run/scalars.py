"""TensorBoard scalars of a run. Processes that do not report write none."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from t2d_runtime.errors import OutputError
from training.run.checkpoint import EpochRecord


class Scalars:
    """Writes into `folder`; None writes nothing. A continued run replaces the scalars of a killed epoch."""

    def __init__(self, folder: Path | None, *, steps_per_epoch: int, epochs_done: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        purge_step = epochs_done * steps_per_epoch if epochs_done else None
        try:
            self._writer = SummaryWriter(str(folder), purge_step=purge_step) if folder else None
        except OSError as error:
            raise OutputError(f"cannot write {folder}: {error.strerror}; choose another --output") from error

    def __enter__(self) -> Scalars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer:
            self._writer.close()

    def add(self, name: str, value: float, step: int) -> None:
        """Write one value at an optimiser step."""
        if self._writer:
            self._writer.add_scalar(name, value, step)

    def add_epoch(self, record: EpochRecord) -> None:
        """Write the figures of an epoch, at its last step."""
        values = {
            "train/loss": record.train_loss,
            "train/learning_rate": record.learning_rate,
            "validation/loss": record.validation_loss,
            "validation/loss_average": record.validation_loss_average,
            "speed/wait_share": record.wait_seconds / record.seconds,
        }
        for name, value in values.items():
            if value is not None:
                self.add(name, value, record.epoch * self.steps_per_epoch - 1)
