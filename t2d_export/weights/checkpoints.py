"""Checkpoint files -> tensors by key. No code from a file is run: no arbitrary pickle, no TorchScript.

Read are `.safetensors`, `torch.save` files (`.pth`, `.pt`, `.bin`), and TorchScript archives such as OpenAI's CLIP,
whose tensors are taken from the zip file without loading the program in it (`script_archive.py`).
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from t2d_export.weights.script_archive import is_script_archive, read_script_archive
from t2d_runtime.errors import WeightsError, WeightsNotFoundError

WRAPPERS = ("model", "state_dict")
"""Entries under which training code keeps the weights beside optimiser and counters (MAE; open_clip)."""

PICKLE_MAGIC = b"\x80"
ZIP_MAGIC = b"PK"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint file on the CPU, in the dtypes and under the keys that it stores.

    Entries that are no tensors (counters, resolutions) are left out.
    Raises WeightsNotFoundError where there is no such file, WeightsError where it is truncated, no checkpoint,
    asks for code to be run, or holds no tensor.
    """
    if not path.is_file():
        raise WeightsNotFoundError(f"{path} is no file: expected a checkpoint (.pth, .pt or .safetensors)")
    if path.suffix == ".safetensors":
        content: object = _read_safetensors(path)
    else:
        content = _read_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {key: value.detach() for key, value in _items(content) if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name: expected a state dict")
    return tensors


def _items(content: object) -> list[tuple[str, object]]:
    if not isinstance(content, Mapping):
        return []
    return [(key, value) for key, value in content.items() if isinstance(key, str)]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is truncated or no safetensors file ({error}); get it again") from error


def _read_torch(path: Path) -> object:
    with path.open("rb") as file:
        magic = file.read(2)
    if not magic.startswith((PICKLE_MAGIC, ZIP_MAGIC)):
        raise WeightsError(f"{path} is no checkpoint: expected a .safetensors file or one that torch.save wrote")
    try:
        if magic == ZIP_MAGIC and is_script_archive(path):
            return read_script_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is a page of advice on how to run the file's code after all.
        raise WeightsError(
            f"{path} holds more than tensors, or is damaged ({_first_line(error)}); expected a plain state dict: "
            "nothing else is unpickled, for it could run code"
        ) from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is truncated or damaged ({_first_line(error)}); get the file again") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip() or type(error).__name__
