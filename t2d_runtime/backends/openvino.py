"""OpenVINO on the CPU, directly on the ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.base import Arrays
from t2d_runtime.errors import BackendError

# On a CPU with bf16 units OpenVINO compiles float32 models in bf16 unless told otherwise, so the hint is
# always given. Stored float16 and int8 graphs keep float32 as the type of what is left unquantised.
PRECISION_HINTS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine:
    """One compiled model; an inference request a call makes it safe for threads."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._outputs = [output.get_any_name() for output in compiled.outputs]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name."""
        try:
            results = self._compiled.create_infer_request().infer(dict(inputs))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed: {error}") from error
        return {name: np.array(results[index]) for index, name in enumerate(self._outputs)}


class OpenVinoBackend:
    """OpenVINO's CPU plugin."""

    name = "openvino"
    native_precisions: tuple[str, ...] = ("bf16",)

    def __init__(self) -> None:
        import openvino

        self._openvino = openvino
        self._core = openvino.Core()

    def description(self) -> str:
        """Engine and version."""
        return f"OpenVINO {self._openvino.__version__}, CPU"

    def load(self, graph: Path, *, precision: str, num_threads: int | None) -> OpenVinoEngine:
        """Compile for latency, with the precision said explicitly."""
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        }
        if num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = num_threads
        try:
            compiled = self._core.compile_model(self._core.read_model(graph), "CPU", options)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot compile {graph}: {error}") from error
        return OpenVinoEngine(compiled)
