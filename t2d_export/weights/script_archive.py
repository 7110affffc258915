"""Reads the tensors of a TorchScript archive as a zip file. OpenAI publishes CLIP as such an archive.

The archive holds a pickle of the module tree (`data.pkl`), the storages it refers to (`data/0`, `data/1`, ...) and
the program (`code/`). The program is not read, and the pickle may name nothing but modules and tensors.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class _Storage:
    """A persistent id of the pickle: an entry of the archive and its content."""

    entry: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _StoredTensor:
    """A view of a storage, as the pickle describes it. It becomes a tensor after unpickling."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Module:
    """Replaces every scripted class; it only stores attributes."""


def is_script_archive(path: Path) -> bool:
    """True where a zip file is a TorchScript archive rather than a file of torch.save."""
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def read_script_archive(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by their dotted names, on the CPU.

    Raises pickle.UnpicklingError where the pickle names anything but modules and tensors, and BadZipFile, KeyError,
    RuntimeError or ValueError where the archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        (root,) = {name.partition("/")[0] for name in archive.namelist()}
        tree = _TreeUnpickler(io.BytesIO(archive.read(f"{root}/data.pkl"))).load()
        stored = dict(_walk(tree, ""))
        storages = {
            storage: torch.frombuffer(bytearray(archive.read(f"{root}/data/{storage.entry}")), dtype=storage.dtype)
            for storage in {tensor.storage for tensor in stored.values()}
        }
    return {
        key: torch.as_strided(storages[tensor.storage], tensor.size, tensor.stride, tensor.offset)
        for key, tensor in stored.items()
    }


class _TreeUnpickler(pickle.Unpickler):
    """Accepts modules, tensors and ordered dictionaries, and refuses every other name."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if module_name == "__torch__" or module_name.startswith("__torch__."):
            return _Module
        if name == "torch._utils._rebuild_tensor_v2":
            return _rebuild_tensor
        if name == "torch._utils._rebuild_parameter":
            return _rebuild_parameter
        if name == "collections.OrderedDict":
            return OrderedDict
        if module_name == "torch" and global_name in DTYPES:
            return DTYPES[global_name]
        raise pickle.UnpicklingError(f"{name} is neither a module nor a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, entry, _location, _numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return _Storage(str(entry), dtype)


def _rebuild_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_unused: object
) -> _StoredTensor:
    return _StoredTensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(data: _StoredTensor, *_unused: object) -> _StoredTensor:
    return data


def _walk(node: object, prefix: str) -> Iterator[tuple[str, _StoredTensor]]:
    """Tensors below a module by dotted name."""
    if not isinstance(node, _Module):
        raise pickle.UnpicklingError(f"expected a module, got {type(node).__name__}")
    for name, value in vars(node).items():
        if isinstance(value, _StoredTensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _walk(value, f"{prefix}{name}.")
