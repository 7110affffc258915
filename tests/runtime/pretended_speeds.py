"""Engines with pretended times, and what is asked of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2d_runtime import Segmenter
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.cli import main
from t2d_runtime.device.timing import Timing
from t2d_runtime.proof import choice

OTHER = {"onnxruntime": "openvino", "openvino": "onnxruntime"}


def open_here(bundle: Path, **options: Any) -> Segmenter:
    return Segmenter.open(bundle, backend="onnxruntime", **options)


class Clock:
    """Pretended milliseconds of each pair, call by call; by precision where the pair has none of its own."""

    def __init__(self) -> None:
        self.times: dict[str, Iterator[float]] = {}
        self.rounds: list[int] = []
        self.set(fp32=50.0, fp16=40.0, bf16=45.0, int8=20.0)

    def set(self, **times: float) -> None:
        self.times |= {name.replace("_", " "): itertools.repeat(ms) for name, ms in times.items()}

    def in_turn(self, calls: dict[str, Any], rounds: int, warm_up: int) -> dict[str, Timing]:
        self.rounds.append(rounds)
        own = {name: self.times.get(name, self.times[name.split()[1]]) for name in calls}
        return {name: Timing(tuple(itertools.islice(own[name], warm_up + rounds))[warm_up:]) for name in calls}


def taken(bundle: Path, **options: Any) -> str:
    """The backend that `auto` opens. Nothing is loaded."""
    opening = {"precision": "fp32", "num_threads": None} | options
    return choice.open_for(Bundle.open(bundle), "auto", **opening).name


def measured(bundle: Path, *arguments: str) -> None:
    assert main(["doctor", "--measure", str(bundle), *arguments]) == 0
