"""One session of ONNX Runtime, and one of a GPU's provider that can leave its outputs in the GPU's memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.base import Arrays
from t2d_runtime.device.arrays import DeviceArray, RunMemory
from t2d_runtime.device.cuda import Cuda
from t2d_runtime.errors import BackendError

FAILURE = re.compile(r"\w+ failure \d+: [^;\n]+|Failed to allocate memory[^;\n]+")
"""The reason in errors of CUDA's provider, which stands behind a thousand characters of its own C++ types."""


def reason_of(error: Exception) -> str:
    """The text of an error of ONNX Runtime; only the reason where CUDA failed."""
    found = FAILURE.search(str(error))
    return found[0].strip() if found else str(error)


@contextmanager
def backend_errors(kinds: tuple[type[Exception], ...]) -> Iterator[None]:
    """Raise BackendError in place of ONNX Runtime's exceptions."""
    try:
        yield
    except kinds as error:
        raise BackendError(f"ONNX Runtime failed: {reason_of(error)}") from error


class OnnxRuntimeEngine:
    """One ONNX Runtime session."""

    def __init__(self, session: Any, errors: tuple[type[Exception], ...]) -> None:
        self._session = session
        self._errors = errors
        self.inputs = frozenset(value.name for value in session.get_inputs())
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name."""
        with backend_errors(self._errors):
            values = self._session.run(self._outputs, dict(inputs))
        return dict(zip(self._outputs, values, strict=True))


class OnnxRuntimeGpuEngine(OnnxRuntimeEngine):
    """A session of a GPU's provider, which can leave its outputs there by IO binding. Not run on a GPU yet."""

    memory_name = "cuda"
    """ONNX Runtime's name of the memory that inputs and outputs lie in."""

    @cached_property
    def _cuda(self) -> tuple[Cuda, Any]:
        """CUDA and a stream, for copies."""
        cuda = Cuda()
        cuda.keep_freed_memory(self)
        return cuda, cuda.stream()

    def run_on_device(self, inputs: Arrays) -> list[dict[str, DeviceArray]]:
        """All outputs by name, in one part, in memory that does not belong to the session."""
        cuda, stream = self._cuda
        given = {name: np.asarray(array, order="C") for name, array in inputs.items()}
        shapes = output_shapes(self._session, given)
        with RunMemory(cuda, stream) as memory:
            addresses = {name: memory.upload(name, array) for name, array in given.items()}
            addresses |= {name: memory.allocate(name, shape, np.dtype(np.float32)) for name, shape in shapes.items()}
            cuda.call("cudaStreamSynchronize", stream)  # the session's own stream does not wait for this one
            with backend_errors(self._errors):
                # The run waits for its end. `synchronize_outputs` would wait for the whole device, which ends a
                # recording of launches in another thread.
                self._session.run_with_iobinding(bound(self._session, self.memory_name, given, shapes, addresses))
            return [{name: memory.keep(name, shape) for name, shape in shapes.items()}]


def output_shapes(session: Any, inputs: Arrays) -> dict[str, tuple[int, ...]]:
    """Shapes of all outputs, from the first axis of the inputs. Raises BackendError where another axis is open too."""
    batch = len(next(iter(inputs.values())))
    shapes = {}
    for output in session.get_outputs():
        sizes = (batch, *output.shape[1:])
        if not all(isinstance(size, int) for size in sizes):
            raise BackendError(
                f"output {output.name} has the shape {output.shape}, expected one whose first axis alone is open"
            )
        shapes[output.name] = tuple(int(size) for size in sizes)
    return shapes


def bound(
    session: Any, memory_name: str, inputs: Arrays, outputs: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]
) -> Any:
    """An IO binding of inputs and outputs to memory; outputs are float32 in every precision."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, memory_name, 0, array.dtype.type, array.shape, addresses[name])
    for name, shape in outputs.items():
        binding.bind_output(name, memory_name, 0, np.float32, shape, addresses[name])
    return binding
