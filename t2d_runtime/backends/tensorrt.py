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
        cuda.keep_freed_memory()
        self._profiles = profiles
        self.inputs = frozenset(profiles)
        self._lock = threading.Lock()
        self._bound: list[int] = []
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._outputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
        self._dtypes = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name. An encoder runs a batch larger than the engine's in parts."""
        # The device reads bytes as they lie. ascontiguousarray would turn scalars into vectors.
        values = {name: np.asarray(inputs[name], self._dtypes[name], order="C") for name in self._profiles}
        with self._lock:
            if len(values) > 1:
                return self._run_once(values)
            ((name, batch),) = values.items()
            most = self._profiles[name].maximum[0]
            parts = [self._run_once({name: batch[start : start + most]}) for start in range(0, len(batch), most)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def bind(self, inputs: Arrays) -> Callable[[], None]:
        """A call that runs the engine on these inputs, which are copied to the device now, without waiting for it.

        Inputs and outputs keep their memory until the next call, after which the one before must not be made any more.
        Raises BackendError for shapes that the engine does not take.
        """
        while self._bound:
            self._cuda.call("cudaFree", self._bound.pop())
        values = {name: np.asarray(inputs[name], self._dtypes[name], order="C") for name in self._profiles}
        self._set_shapes(values)
        for name, array in {**values, **{name: self._empty(name) for name in self._outputs}}.items():
            buffer = self._cuda.call("cudaMalloc", max(array.nbytes, 1))
            self._bound.append(int(buffer))
            self._cuda.call(
                "cudaMemcpyAsync", buffer, array.ctypes.data, array.nbytes, self._cuda.copy_kinds[0], self.stream
            )
            self._cuda.call("cudaStreamSynchronize", self.stream)
            if not self._context.set_tensor_address(name, int(buffer)):
                raise BackendError(f"TensorRT refuses memory for {name}; see the log")

        def launch() -> None:
            if not self._context.execute_async_v3(int(self.stream)):
                raise BackendError("TensorRT failed to run the engine; see the log")

        return launch

    def _set_shapes(self, values: Arrays) -> None:
        for name, array in values.items():
            if not self._context.set_input_shape(name, array.shape):
                raise BackendError(
                    f"the engine takes {name} of shapes from {self._profiles[name].minimum} to "
                    f"{self._profiles[name].maximum}, got {array.shape}"
                )

    def _run_once(self, values: Arrays) -> dict[str, NDArray[Any]]:
        self._set_shapes(values)
        cuda, stream = self._cuda, self.stream
        results = {name: self._empty(name) for name in self._outputs}
        buffers: dict[str, int] = {}
        try:
            for name, array in {**values, **results}.items():
                buffers[name] = cuda.call("cudaMallocAsync", max(array.nbytes, 1), stream)
                if not self._context.set_tensor_address(name, int(buffers[name])):
                    raise BackendError(f"TensorRT refuses memory for {name}; see the log")
            to_device, to_host = cuda.copy_kinds
            for name, array in values.items():
                cuda.call("cudaMemcpyAsync", buffers[name], array.ctypes.data, array.nbytes, to_device, stream)
            if not self._context.execute_async_v3(int(stream)):
                raise BackendError("TensorRT failed to run the engine; see the log")
            for name, array in results.items():
                cuda.call("cudaMemcpyAsync", array.ctypes.data, buffers[name], array.nbytes, to_host, stream)
            cuda.call("cudaStreamSynchronize", stream)
        finally:
            for buffer in buffers.values():
                cuda.free(buffer, stream)
        return results

    def _empty(self, name: str) -> NDArray[Any]:
        shape = tuple(self._context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            raise BackendError(f"TensorRT does not know the shape of {name} before it runs, only {shape}; see the log")
        return np.empty(shape, self._dtypes[name])


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
