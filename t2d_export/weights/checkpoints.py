"""Reads checkpoint files to tensors by key. It never runs code from a file: no arbitrary pickle, no TorchScript.

The formats are `.safetensors`, `torch.save` files (`.pth`, `.pt`, `.bin`), the shards of either (`shards.py`), and
TorchScript archives such as OpenAI's CLIP. The latter's tensors are read from the zip file, without its program
(`script_archive.py`).
"""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from t2d_export.weights.script_archive import is_script_archive, read_script_archive
from t2d_export.weights.shards import shards_of
from t2d_runtime.errors import WeightsError, WeightsNotFoundError

PICKLE_MAGIC = b"\x80"
ZIP_MAGIC = b"PK"
LFS_MAGIC = b"version https://git-lfs"
"""First bytes of the note that a repository cloned without Git LFS holds instead of a file."""


DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of torch's reader, observed on files with bytes changed at random."""


class _SetAside:
    """Replaces an object that is not a weight. It takes the saved state, which nobody reads."""

    def __init__(self, *_arguments: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


SET_ASIDE = (
    "argparse.Namespace",  # the command line of DINO, MAE and timm
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{home}.multiarray.{name}" for home in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"{home}.{name}" for home in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
)
"""Types that training code saves beside the weights. None of them is built; `_SetAside` replaces each."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint on the CPU, in the dtypes and under the keys that it stores.

    `path` is a file, an index of shards, or a folder that holds one of these. Nested dictionaries, which training code
    saves beside optimisers and counters, become dotted keys ("teacher.backbone.norm.weight"). Where only one dictionary
    holds tensors, its keys stay as they are. Entries other than tensors are left out.
    Raises WeightsNotFoundError where the file or a shard is missing. Raises WeightsError where it is truncated, not a
    checkpoint, would run code, or holds no tensor.
    """
    files, names = shards_of(path)
    if len(files) == 1 and names is None:
        return _read_file(files[0])
    tensors: dict[str, Tensor] = {}
    for file in files:
        shard = _read_file(file)
        twice = sorted(tensors.keys() & shard.keys())
        if twice:
            raise WeightsError(f"{path}: {file.name} holds {twice[0]} once more; the shards are of two models")
        tensors |= shard
    if names is not None and names != tensors.keys():
        odd = sorted(names ^ tensors.keys())
        raise WeightsError(
            f"{path}: the index and its shards differ in {len(odd)} keys ({', '.join(odd[:3])}); get all of them again"
        )
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsNotFoundError(f"{path} is no file: expected a checkpoint (.pth, .pt or .safetensors)")
    with path.open("rb") as file:
        magic = file.read(len(LFS_MAGIC))
    if magic == LFS_MAGIC:
        raise WeightsError(f"{path} is a pointer of Git LFS, not the weights; run 'git lfs pull' there")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, magic)
    tensors = _named_tensors(content, path)
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name: expected a state dict")
    return tensors


def _named_tensors(content: object, path: Path) -> dict[str, Tensor]:
    """Tensors of nested dictionaries. Each dictionary is read once, however often others refer to it."""
    found: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()
    waiting: deque[tuple[str, object]] = deque([("", content)])
    while waiting:
        prefix, node = waiting.popleft()
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        for key, value in node.items():
            if isinstance(key, str) and isinstance(value, Tensor):
                found.setdefault(prefix, {})[key] = value.detach()
            elif isinstance(key, str):
                waiting.append((f"{prefix}{key}.", value))
    if len(found) == 1:
        return next(iter(found.values()))
    named = [(prefix + key, value) for prefix, tensors in found.items() for key, value in tensors.items()]
    if len(dict(named)) < len(named):
        raise WeightsError(f"{path}: two of its entries have one name; expected a state dict")
    return dict(named)


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is truncated or no safetensors file ({error}); get it again") from error
    return tensors


def _read_torch(path: Path, magic: bytes) -> object:
    if not magic.startswith((PICKLE_MAGIC, ZIP_MAGIC)):
        raise WeightsError(f"{path} is no checkpoint: expected a .safetensors file or one that torch.save wrote")
    try:
        if magic.startswith(ZIP_MAGIC) and is_script_archive(path):
            return read_script_archive(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([(_SetAside, name) for name in SET_ASIDE]):
            # The warnings concern pickle protocols and slow checks. Faults of a file raise errors.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is a page of advice on how to run the file's code after all.
        raise WeightsError(
            f"{path} holds more than tensors, or is damaged ({_first_line(error)}); expected a plain state dict: "
            "nothing else is unpickled, for it could run code"
        ) from error
    except DAMAGED as error:
        raise WeightsError(f"{path} is truncated or damaged ({_first_line(error)}); get the file again") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip() or type(error).__name__


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point tensors, also of eight bits, as contiguous float32. Others stay for `check_weights` to name."""
    return {key: value if _fault(value) else value.float().contiguous() for key, value in tensors.items()}


def check_weights(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise WeightsError, which names the first tensor that is not float32."""
    for key, value in tensors.items():
        if fault := _fault(value):
            raise WeightsError(
                f"{where}: {key} is {fault}, expected dense floating-point values; save the weights as float32"
            )


def _fault(value: Tensor) -> str:
    """The reason why a tensor cannot be a weight; empty where it can."""
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_meta:
        return "on no device"
    if value.layout != torch.strided or value.is_quantized:
        return f"sparse or quantised ({kind})"
    if not value.is_floating_point():
        return kind
    try:
        value.flatten()[:1].float()
    except (NotImplementedError, RuntimeError):
        return f"{kind}, which cannot be widened to float32"
    return ""
