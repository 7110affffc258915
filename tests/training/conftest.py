"""Golden inputs of the training tests, drawn as they were drawn for the released code."""

from __future__ import annotations

import errno
import io
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from benchmarks.training.synthetic_features import write_synthetic_features
from t2d_runtime.storage import whole_file

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "training.npz"
SEED = 100
SAMPLE_STEP = 997


@dataclass(frozen=True)
class Golden:
    """B = 24 pairs, M = 12 heads, D = 768, text width 512; `results` are the released code's."""

    text: Tensor
    heads: Tensor
    tokens: Tensor
    token_mask: Tensor
    projection: dict[str, Tensor]
    results: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def small_features(tmp_path_factory) -> Path:
    """100 images with 250 captions, M = 4, D = 32, text width 24, every token array; not to be written to."""
    folder = tmp_path_factory.mktemp("small_features")
    write_synthetic_features(
        folder,
        images=100,
        captions_per_image=2.5,
        num_heads=4,
        embed_dim=32,
        text_dim=24,
        images_per_shard=40,
        token_arrays=("tokens", "penultimate"),
    )
    return folder


@pytest.fixture
def spoiled(small_features, tmp_path) -> Callable[[str, float], Path]:
    """Makes a copy of the small features with one value replaced, in a row of the second shard."""

    def spoil(array: str, value: float) -> Path:
        folder = Path(shutil.copytree(small_features, tmp_path / f"spoiled-{array}"))
        path = folder / "shard-00001.safetensors"
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        tensors[array][30].view(-1)[0] = value
        safetensors.torch.save_file(tensors, path, metadata)
        return folder

    return spoil


class FullDisk(io.BufferedIOBase):
    """A file on a disk that has no room but for its first bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, content: bytes) -> int:
        self.file.write(bytes(content)[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self.file.close()


@pytest.fixture
def full_disk(monkeypatch) -> Callable[[str], None]:
    """Lets the disk be full in the middle of every file whose name begins as given."""

    def fill(start: str) -> None:
        full: set[int] = set()

        def opened(path, flags, mode):
            handle = os.open(path, flags, mode)
            (full.add if path.name.startswith(f".{start}") else full.discard)(handle)
            return handle

        def fdopen(handle, mode):
            file = os.fdopen(handle, mode)
            return FullDisk(file) if handle in full else file

        monkeypatch.setattr(whole_file, "os", SimpleNamespace(**{**vars(os), "open": opened, "fdopen": fdopen}))

    return fill


@pytest.fixture(scope="session")
def golden() -> Golden:
    with np.load(GOLDEN) as file:
        results = dict(file)
    rng = np.random.default_rng(SEED)
    text = (0.35 * rng.standard_normal((24, 512))).astype(np.float32)
    signal = text @ rng.standard_normal((512, 768))
    heads = (signal[:, None] * (0.6 / 22) + 0.8 * rng.standard_normal((24, 12, 768))) / 1024
    tokens = 0.35 * rng.standard_normal((24, 20, 512))
    inputs = {"text": text, "heads": heads.astype(np.float32), "tokens": tokens.astype(np.float32)}
    for name, values in inputs.items():  # the last bit of a product may differ between processors
        expected = results[f"{name}_sample"]
        np.testing.assert_allclose(values.ravel()[::SAMPLE_STEP], expected, rtol=1e-6, atol=1e-9)
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    mask = torch.from_numpy(results["token_mask"])
    return Golden(**tensors, token_mask=mask, projection=_golden_projection(), results=results)


def _golden_projection() -> dict[str, Tensor]:
    shapes = {
        "linear_layer.weight": ((768, 512), 6.0 / 512**0.5),
        "linear_layer.bias": ((768,), 0.02),
        "hidden_layers.0.weight": ((768, 768), 1.0 / 768**0.5),
        "hidden_layers.0.bias": ((768,), 0.02),
    }
    tensors = {}
    for name, (shape, std) in shapes.items():
        rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
        tensors[name] = torch.from_numpy((std * rng.standard_normal(shape)).astype(np.float32))
    return tensors
