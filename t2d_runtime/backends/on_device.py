"""Engines with inputs and outputs on the GPU, for measuring the device alone: ONNX Runtime by IO binding, TensorRT.

Not run on a GPU yet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from t2d_runtime.backends.base import Arrays
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.backends.onnxruntime_session import backend_errors, bound, output_shapes
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.device.cuda import Cuda

NO_WAIT = {"disable_synchronize_execution_providers": "1"}
"""Options of a run that returns when its work is on the stream."""


class BoundSession:
    """An ONNX Runtime session on the GPU's memory and one stream. Use it from one thread at a time."""

    def __init__(
        self,
        backend: OnnxRuntimeBackend,
        bundle: Bundle,
        graph: str,
        cuda: Cuda,
        *,
        precision: str,
        cuda_graph: bool = False,
        device: str = "cuda",
    ) -> None:
        self._backend, self._cuda, self._device = backend, cuda, device
        self.stream = cuda.stream()
        options = backend.provider_options(bundle, graph, precision)
        if device == "cuda":
            options["user_compute_stream"] = str(int(self.stream))
        if cuda_graph:  # fixed shapes and addresses, which `bind` gives
            options["enable_cuda_graph"] = "1"
        self._session: Any = backend.native_session(bundle.graph(graph, precision), None, provider_options=options)
        self._graphs = itertools.count(1) if cuda_graph else None
        self._memory: list[int] = []

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        """A call that runs the session on these inputs, which are copied to the GPU now, without waiting for it.

        The memory of the call before is freed: it must not be made any more. Raises BackendError where the graph's
        output sizes are not known from the first axis of the inputs, or the GPU's memory is too small.
        """
        self.close()
        given = {name: np.asarray(array, order="C") for name, array in inputs.items()}
        shapes = output_shapes(self._session, given)
        addresses = {name: self._allocate(array.nbytes) for name, array in given.items()}
        for name, array in given.items():
            self._cuda.upload(addresses[name], array, self.stream)
        self._cuda.call("cudaStreamSynchronize", self.stream)
        addresses |= {name: self._allocate(4 * math.prod(shape)) for name, shape in shapes.items()}
        binding = bound(self._session, self._device, given, shapes, addresses)
        entries = dict(NO_WAIT)
        if self._graphs is not None:  # else a graph that was recorded for another batch would be replayed; 0 is taken
            entries["gpu_graph_id"] = str(next(self._graphs))
        options = self._backend.run_options(entries)

        def run() -> None:
            with backend_errors(self._backend.errors):
                self._session.run_with_iobinding(binding, options)

        return run

    def close(self) -> None:
        """Free the inputs and outputs; what `bind` gave must not be called any more."""
        self._cuda.call("cudaStreamSynchronize", self.stream)
        while self._memory:
            self._cuda.call("cudaFree", self._memory.pop())

    def _allocate(self, nbytes: int) -> int:
        self._memory.append(int(self._cuda.call("cudaMalloc", nbytes)))
        return self._memory[-1]


def device_ms(cuda: Cuda, stream: Any, call: Callable[[], object], rounds: int, warm_up: int = 3) -> list[float]:
    """The device's milliseconds between two CUDA events around each call."""
    start, end = (cuda.call("cudaEventCreate") for _ in range(2))
    times = []
    for number in range(warm_up + rounds):
        cuda.call("cudaEventRecord", start, stream)
        call()
        cuda.call("cudaEventRecord", end, stream)
        cuda.call("cudaEventSynchronize", end)
        if number >= warm_up:
            times.append(float(cuda.call("cudaEventElapsedTime", start, end)))
    return times


def free_bytes(cuda: Cuda) -> int:
    """Memory of the GPU that nobody has taken."""
    return int(cuda.call("cudaMemGetInfo"))
