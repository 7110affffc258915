"""Contenders of the image encoder: PyTorch eager, in bfloat16, compiled, on a GPU; and engines in their precisions."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from t2d_export.model.reference import Reference
from t2d_runtime.backends.names import AUTOMATIC, installed_module
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.errors import BackendUnavailableError, OptionError
from t2d_runtime.segmenter import Segmenter

BASELINES = {
    "eager": "PyTorch float32",
    "bf16": "PyTorch bfloat16 autocast",
    "compile": "PyTorch float32 compiled",
    "compile-bf16": "PyTorch bfloat16 compiled",
    "cuda": "PyTorch float32 on the GPU",
}
"""Names on the command line, and in tables."""

ALL = "all"
"""Stands for every precision on every installed CPU backend."""

Encode = Callable[[NDArray[np.uint8]], object]
"""Windows (B,h,w,3) uint8 RGB to features."""


@dataclass(frozen=True)
class Contender:
    """A way to encode windows."""

    name: str
    encode: Encode
    computes_in: str | None
    """fp32 or bf16, the type of the matrix products that limit its speed; None where their rate is not measured."""
    on_gpu: bool = False
    """True where its time is the device's, between CUDA events."""


def torch_contenders(reference: Reference, names: Sequence[str]) -> list[Contender]:
    """Baselines by name. Raises OptionError for an unknown one, BackendUnavailableError where one cannot run here."""
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise OptionError(f"unknown baselines {unknown}, expected some of {','.join(BASELINES)}")
    return [_torch_contender(reference, name) for name in names]


def _torch_contender(reference: Reference, name: str) -> Contender:
    model: Callable[[torch.Tensor], Any] = reference.image_features
    device = "cpu"
    if name.startswith("compile"):
        _require_compiler(name)
        model = torch.compile(reference.image_features)
    if name == "cuda":
        if not torch.cuda.is_available():
            raise BackendUnavailableError("baseline 'cuda' needs PyTorch with a GPU, this one sees none; leave it out")
        device = "cuda"
        moved = replace(
            reference,
            backbone=copy.deepcopy(reference.backbone).to(device),
            projection=copy.deepcopy(reference.projection).to(device),
        )
        model = moved.image_features
    autocast = name.endswith("bf16")

    @torch.inference_mode()
    def encode(windows: NDArray[np.uint8]) -> object:
        pixels = reference.pixel_values(torch.from_numpy(windows).permute(0, 3, 1, 2))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return model(pixels.to(device))

    return Contender(
        BASELINES[name], encode, None if name == "cuda" else "bf16" if autocast else "fp32", name == "cuda"
    )


def _require_compiler(name: str) -> None:
    candidates = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if not any(shutil.which(candidate) for candidate in candidates):
        raise BackendUnavailableError(
            f"baseline {name!r} needs a C++ compiler for torch.compile, none of {candidates} is here; install g++, set "
            "CXX, or leave the baseline out"
        )


def engine_name(segmenter: Segmenter) -> str:
    """Engine, version and precision, such as "OpenVINO 2026.4.1 fp32"."""
    return f"{segmenter.engine_description.split(',')[0]} {segmenter.precision}"


def engine_contender(segmenter: Segmenter) -> Contender:
    """The image encoder of an opened segmenter."""
    return Contender(
        name=engine_name(segmenter),
        encode=segmenter.encoders.run_image_encoder,
        # On a CPU, float16 is only stored and is computed in float32. The rate of int8 is not measured.
        computes_in={"fp32": "fp32", "fp16": "fp32", "bf16": "bf16"}.get(segmenter.precision),
    )


def engine_pairs(bundle: Path, text: str) -> Iterator[tuple[str, str]]:
    """Backends and precisions of a list "openvino:bf16,onnxruntime:int8", or of "all". Raises OptionError."""
    if text == ALL:
        opened = Bundle.open(bundle)
        for name in AUTOMATIC:
            if installed_module(name) is not None:
                yield from ((name, precision) for precision in open_backend(name).precisions(opened))
        return
    for item in text.split(","):
        backend, colon, precision = item.partition(":")
        if not colon:
            raise OptionError(f"engine {item!r}, expected BACKEND:PRECISION such as openvino:bf16, or {ALL!r} alone")
        yield backend, precision
