"""What the rows share: one model in PyTorch and as a bundle, one window, words, threads and rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders.picture import photograph
from benchmarks.contenders.planted import planted_classes
from benchmarks.timing import Timing, in_turn
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.segmenter import FAST, Segmenter
from t2d_runtime.words.vocabulary import ClassEmbeddings

if TYPE_CHECKING:
    from t2d_export.model.reference import Reference

CPU_BACKENDS = ("openvino", "onnxruntime")


@dataclass(eq=False)
class Setup:
    """One run's model and sizes."""

    bundle: Path
    reference: Reference
    """The same model in PyTorch."""
    backbone: str
    """As given to `load_reference`."""
    threads: int
    rounds: int
    slow_rounds: int
    """Of contenders that take many seconds a call; where PyTorch takes minutes it is one."""
    _segmenters: dict[tuple[str, str], Segmenter] = field(default_factory=dict)

    def segmenter(self, backend: str = "auto", precision: str = "fp32") -> Segmenter:
        """A segmenter with the run's threads, opened once."""
        key = backend, precision
        if key not in self._segmenters:
            self._segmenters[key] = Segmenter.open(
                self.bundle, backend=backend, precision=precision, num_threads=self.threads
            )
        return self._segmenters[key]

    @property
    def fast(self) -> Segmenter:
        """In the fastest precision that passes its gates here."""
        return self.segmenter(precision=FAST)

    def refusal(self, backend: str, precision: str) -> str | None:
        """Why a backend cannot run the bundle in a precision here; None where it can."""
        opened = open_backend(backend)
        if precision in opened.precisions(self.segmenter().bundle):
            return None
        return opened.refusal(precision) or f"the bundle holds no {precision}"

    @cached_property
    def window(self) -> NDArray[np.uint8]:
        """(h,w,3), one window of a photograph."""
        return photograph(self.segmenter().manifest.windows.crop_size)

    @cached_property
    def encoding(self) -> ImageEncoding:
        """The window, encoded in float32."""
        return self.segmenter().encode_image(self.window)

    def planted(self, count: int) -> ClassEmbeddings:
        """Classes each of which wins somewhere in the window."""
        return planted_classes(self.segmenter(), self.encoding, count)

    def time(self, contenders: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
        """Contenders in turn for `rounds`, after a round that does not count."""
        return in_turn(contenders, self.rounds)

    def time_slow(
        self, contenders: Mapping[str, Callable[[], object]], slow: str, rounds: int | None = None
    ) -> dict[str, Timing]:
        """Contenders in turn for a few rounds; all but `slow`, which needs it least, warm up first."""
        for name, call in contenders.items():
            if name != slow:
                call()
        return in_turn(contenders, rounds or self.slow_rounds, warm_up=0)
