"""PyTorch beside the engines: the same memory is counted, and float32 is float32 there too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import torch_side

TINY = str(Path(__file__).parents[2] / "models" / "tiny")


def test_memory_is_what_the_gpu_has_less_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([1000, 800, 700])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (next(free), 2000))
    monkeypatch.setattr(torch_side, "contender", lambda *given: (lambda values: None, torch.float32))
    monkeypatch.setattr(torch_side, "over_batches", lambda batches, time_batch, memory: iter([memory(), memory()]))
    given = {"backbone": TINY, "size": [4, 4], "kind": "fp32", "batches": [1, 2], "bundle": ""}
    assert list(torch_side.torch_latency(**given)) == [200, 300]


def test_pytorch_computes_float32_in_float32_and_compiles_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[dict[str, Any]] = []
    monkeypatch.setattr(torch_side, "DEVICE", "cpu")
    monkeypatch.setattr(torch_side, "random_backbone", lambda backbone, size: torch.nn.Identity())
    monkeypatch.setattr(torch, "compile", lambda model, **how: compiled.append(how))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch_side.contender(TINY, [4, 4], "fp32 compiled")
    assert compiled == [{"mode": "reduce-overhead", "dynamic": False}]
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
