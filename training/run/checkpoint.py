"""The state of a run after an epoch, in one file: weights, optimiser, settings and history.

So a run that was killed continues from a state that never mixes two epochs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from t2d_runtime.errors import CheckpointError
from training.storage import write_tensors

CHECKPOINT = "checkpoint.safetensors"
SCHEMA_VERSION = 1
MODEL_PREFIX = "model."
OPTIMIZER_PREFIX = "optimizer."


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch. Losses are means over its batches; epochs count from 1."""

    epoch: int
    learning_rate: float
    """Learning rate at the last step of the epoch."""
    train_loss: float
    validation_loss: float | None
    """Validation loss with the trained objective."""
    validation_loss_average: float | None
    """Validation loss with the averaged-attention vector instead of the heads, as the released code reports it."""
    head_counts: tuple[int, ...] | None
    """Number of captions that chose each head, where the selection chooses one."""
    seconds: float
    wait_seconds: float
    """Part of the seconds in which steps waited for data."""


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Mapping[str, Any],
    history: list[EpochRecord],
) -> None:
    """Write the state. `run` identifies the run by its settings and features. Raises OutputError."""
    names = [name for name, _ in model.named_parameters()]
    tensors = {MODEL_PREFIX + name: value for name, value in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"{OPTIMIZER_PREFIX}{names[number]}.{key}"] = value
    metadata = {
        "schema_version": str(SCHEMA_VERSION),
        "run": json.dumps(run, sort_keys=True),
        "history": json.dumps([dataclasses.asdict(record) for record in history]),
    }
    write_tensors(path, tensors, metadata)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: Mapping[str, Any]
) -> list[EpochRecord]:
    """Load the state into model and optimiser; returns the history.

    Raises CheckpointError where the file is damaged, or of another schema, run or shape.
    """
    metadata, tensors = _read(path)
    if metadata.get("schema_version") != str(SCHEMA_VERSION):
        raise CheckpointError(
            f"{path} has schema version {metadata.get('schema_version')}, expected {SCHEMA_VERSION}: start anew in "
            "another --output"
        )
    _check_same_run(path, json.loads(metadata["run"]), run)
    weights = {name.removeprefix(MODEL_PREFIX): t for name, t in tensors.items() if name.startswith(MODEL_PREFIX)}
    _check_shapes(path, weights, model.state_dict())
    model.load_state_dict(weights)
    state: dict[int, dict[str, Tensor]] = {}
    for number, (name, _) in enumerate(model.named_parameters()):
        prefix = f"{OPTIMIZER_PREFIX}{name}."
        state[number] = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return [_record(entry) for entry in json.loads(metadata["history"])]


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            # Copies: a view of the mapped file would change when the next checkpoint replaces it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): delete it to start anew") from error


def _record(entry: dict[str, Any]) -> EpochRecord:
    counts = entry.pop("head_counts")
    return EpochRecord(**entry, head_counts=tuple(counts) if counts else None)


def _check_same_run(path: Path, found: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    expected = json.loads(json.dumps(run))
    different = [key for key in expected if found.get(key) != expected[key]]
    if different:
        changes = ", ".join(f"{key} was {found.get(key)!r}, now {expected[key]!r}" for key in different)
        raise CheckpointError(f"{path} is of another run ({changes}); give its settings, or another --output")


def _check_shapes(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name in sorted(found.keys() | expected.keys()):
        shapes = [tuple(tensors[name].shape) if name in tensors else None for tensors in (found, expected)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{path}: {name} is {shapes[0]}, expected {shapes[1]}: a checkpoint of another shape; name another "
                "--output"
            )
