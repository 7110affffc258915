"""The device that towers encode and projections train on."""

from __future__ import annotations

import torch

from t2d_runtime.errors import OptionError


def open_device(name: str) -> torch.device:
    """The device "cpu" or "cuda". Raises OptionError for any other, and where torch sees no GPU."""
    if name not in ("cpu", "cuda"):
        raise OptionError(f"device: expected cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("device 'cuda' was asked for and torch sees none here; give 'cpu'")
    return torch.device(name)
