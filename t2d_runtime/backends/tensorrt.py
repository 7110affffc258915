"""TensorRT and TensorRT for RTX on engines that were built ahead of time, through cuda-python."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.base import Arrays, Engine, EngineIdentity
from t2d_runtime.backends.tensorrt_module import load_tensorrt, make_logger
from t2d_runtime.bundle.engines import (
    REFINED_SEGMENTER,
    EngineManifest,
    Profile,
    WantedEngine,
    find_engine,
    read_engine,
    read_engines,
    tensorrt_options,
)
from t2d_runtime.bundle.files import ENCODERS, SEGMENTER, Bundle
from t2d_runtime.device.arrays import DeviceArray, RunMemory
from t2d_runtime.device.cuda import Cuda
from t2d_runtime.errors import BackendError

logger = logging.getLogger(__name__)

ENGINE_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}


class TensorRtEngine:
    """One deserialised engine. A lock makes it safe for threads: an execution context serves one call at a time."""

    def __init__(self, trt: Any, cuda: Cuda, engine: Any, profiles: Mapping[str, Profile]) -> None:
        self._cuda = cuda
        self._engine = engine
        self._context = make_context(trt, engine)
        if self._context is None:
            raise BackendError("TensorRT cannot make an execution context: the device's memory is too small")
        self.stream = cuda.stream()
        cuda.keep_freed_memory(self)
        self._profiles = profiles
        self.inputs = frozenset(profiles)
        self._lock = threading.Lock()
        self._bound: list[int] = []
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._outputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
        self._dtypes = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name. An encoder runs a batch larger than the engine's in parts."""
        given = self._parts(inputs)
        with self._lock:
            parts = [self._run_once(values) for values in given]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def run_on_device(self, inputs: Arrays) -> list[dict[str, DeviceArray]]:
        """All outputs by name, for each part of the batch. Not run on a GPU yet."""
        given = self._parts(inputs)
        with self._lock:
            return [self._leave_once(values) for values in given]

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        """A call that runs the engine on these inputs, which are copied to the device now, without waiting for it.

        Inputs and outputs keep their memory until the next call, after which the one before must not be made any more.
        Raises BackendError for shapes that the engine does not take.
        """
        while self._bound:
            self._cuda.call("cudaFree", self._bound.pop())
        values = self._values(inputs)
        self._set_shapes(values)
        for name, array in {**values, **{name: self._empty(name) for name in self._outputs}}.items():
            buffer = self._cuda.call("cudaMalloc", max(array.nbytes, 1))
            self._bound.append(int(buffer))
            self._cuda.upload(int(buffer), array, self.stream)
            self._cuda.call("cudaStreamSynchronize", self.stream)
            if not self._context.set_tensor_address(name, int(buffer)):
                raise BackendError(f"TensorRT refuses memory for {name}; see the log")

        def launch() -> None:
            if not self._context.execute_async_v3(int(self.stream)):
                raise BackendError("TensorRT failed to run the engine; see the log")

        return launch

    def _values(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        # The device reads bytes as they lie. ascontiguousarray would turn scalars into vectors.
        return {name: np.asarray(inputs[name], self._dtypes[name], order="C") for name in self._profiles}

    def _parts(self, inputs: Arrays) -> list[dict[str, NDArray[Any]]]:
        """The inputs in as many parts as the engine's largest batch asks for; those of several inputs in one."""
        values = self._values(inputs)
        if len(values) > 1:
            return [values]
        ((name, batch),) = values.items()
        most = self._profiles[name].maximum[0]
        return [{name: batch[start : start + most]} for start in range(0, len(batch), most)]

    def _set_shapes(self, values: Arrays) -> None:
        for name, array in values.items():
            if not self._context.set_input_shape(name, array.shape):
                raise BackendError(
                    f"the engine takes {name} of shapes from {self._profiles[name].minimum} to "
                    f"{self._profiles[name].maximum}, got {array.shape}"
                )

    def _run_once(self, values: Arrays) -> dict[str, NDArray[Any]]:
        with RunMemory(self._cuda, self.stream) as memory:
            self._launch(memory, values)
            results = {name: self._empty(name) for name in self._outputs}
            for name, array in results.items():
                memory.download(name, array)
            self._cuda.call("cudaStreamSynchronize", self.stream)
        return results

    def _leave_once(self, values: Arrays) -> dict[str, DeviceArray]:
        for name in self._outputs:
            if self._dtypes[name] != np.float32:
                raise BackendError(f"output {name} is {self._dtypes[name]}, expected float32; build the engine again")
        with RunMemory(self._cuda, self.stream) as memory:
            self._launch(memory, values)
            self._cuda.call("cudaStreamSynchronize", self.stream)  # other streams read the outputs
            return {name: memory.keep(name, self._shape(name)) for name in self._outputs}

    def _launch(self, memory: RunMemory, values: Arrays) -> None:
        """Start a run on the stream, with inputs and outputs in new memory."""
        self._set_shapes(values)
        addresses = {name: memory.upload(name, array) for name, array in values.items()}
        for name in self._outputs:
            addresses[name] = memory.allocate(name, self._shape(name), self._dtypes[name])
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise BackendError(f"TensorRT refuses memory for {name}; see the log")
        if not self._context.execute_async_v3(int(self.stream)):
            raise BackendError("TensorRT failed to run the engine; see the log")

    def _empty(self, name: str) -> NDArray[Any]:
        return np.empty(self._shape(name), self._dtypes[name])

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = tuple(self._context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            raise BackendError(f"TensorRT does not know the shape of {name} before it runs, only {shape}; see the log")
        return shape


def make_context(trt: Any, engine: Any) -> Any:
    """An execution context of an engine; None where the device's memory is too small.

    TensorRT for RTX compiles kernels for the shapes of a run while general ones, which are slower, do that run. Here it
    waits for those that it compiles, so that a figure or a first frame does not depend on how long that takes.
    """
    strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    if strategies is None:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    return engine.create_execution_context(config)


class FusedTensorRtEngine:
    """The fused graph as two engines: one without PAMR, one with the usual number of iterations."""

    def __init__(self, plain: TensorRtEngine, refined: TensorRtEngine, iterations: int) -> None:
        self._engines = {0: plain, iterations: refined}
        self.inputs = plain.inputs | {"pamr_iterations"}

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name. Raises BackendError for another number of iterations."""
        iterations = int(inputs["pamr_iterations"])
        if iterations not in self._engines:
            raise BackendError(
                f"the engines were built for {sorted(self._engines)} iterations of PAMR, {iterations} were asked for"
            )
        return self._engines[iterations].run(inputs)


class TensorRtBackend:
    """Engines in bundle/engines for this version and GPU. An engine for another GPU is an error; none is rebuilt."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._trt = load_tensorrt(name)
        self._cuda = Cuda()
        self._device, self._capability, self._driver = self._cuda.device()
        self._logger = make_logger(self._trt, logger.warning)  # must outlive the runtime
        self._runtime = self._trt.Runtime(self._logger)

    @cached_property
    def identity(self) -> EngineIdentity:
        """Version, GPU and driver."""
        device = f"{self._device}, compute capability {self._capability}"
        return EngineIdentity(ENGINE_NAMES[self.name], self._trt.__version__, device, self._driver)

    @property
    def target(self) -> str:
        """The target an engine must have been built for: a GPU model for TensorRT, a compute capability for RTX."""
        return self._capability if self.name == "tensorrt-rtx" else f"{self._device} {self._capability}"

    def refusal(self, precision: str) -> str | None:
        """None: what can run is decided when the engine is built."""
        return None

    def precisions(self, bundle: Bundle) -> tuple[str, ...]:
        """Precisions of the engines built for this version and GPU."""
        identities = [manifest.identity for manifest in read_engines(bundle, self.name).values()]
        return tuple(
            identity.precision
            for identity in identities
            if self._wanted(bundle, identity.precision, ENCODERS).fits(identity)
        )

    def digests(self, bundle: Bundle, precision: str, graphs: Sequence[str] = ENCODERS) -> tuple[str, ...]:
        """sha256 of the engine's files."""
        _, manifest = self._find(bundle, precision, graphs)
        return tuple(built.record.sha256 for built in manifest.graphs.values())

    def load(self, bundle: Bundle, graph: str, *, precision: str, num_threads: int | None) -> Engine:
        """Deserialise an engine. `num_threads` has no effect on a GPU."""
        if graph != SEGMENTER:
            return self._open(*self._find(bundle, precision, ENCODERS), graph)
        found = self._find(bundle, precision, (SEGMENTER,))
        plain, refined = (self._open(*found, name) for name in (SEGMENTER, REFINED_SEGMENTER))
        return FusedTensorRtEngine(plain, refined, bundle.manifest.defaults.pamr.iterations)

    def _open(self, folder: Path, manifest: EngineManifest, graph: str) -> TensorRtEngine:
        engine = self._runtime.deserialize_cuda_engine(read_engine(folder, manifest, graph))
        if engine is None:
            raise BackendError(
                f"{self.identity} refuses {folder}, see the log; remove it and build it again with 't2d-export engine'"
            )
        return TensorRtEngine(self._trt, self._cuda, engine, manifest.graphs[graph].profiles)

    def _find(self, bundle: Bundle, precision: str, graphs: Sequence[str]) -> tuple[Path, EngineManifest]:
        return find_engine(bundle, self._wanted(bundle, precision, graphs))

    def _wanted(self, bundle: Bundle, precision: str, graphs: Sequence[str]) -> WantedEngine:
        digests = bundle.graph_digests(precision, graphs)
        options = tensorrt_options(precision)
        return WantedEngine(self.name, self._trt.__version__, self.target, precision, digests, graphs, options)
