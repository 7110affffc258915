"""ONNX Runtime."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from t2d_runtime.backends.base import Arrays, EngineIdentity
from t2d_runtime.backends.names import BACKENDS
from t2d_runtime.bundle.files import ENCODERS, IMAGE_ENCODER, Bundle
from t2d_runtime.device.cpu import cpu_name
from t2d_runtime.errors import BackendError, BackendUnavailableError

PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}

FATAL_ONLY = 4
"""ONNX Runtime's log level: its errors reach the caller as exceptions."""

KEEP_QUANTISED = {"optimization.disable_specified_optimizers": "MatMulAddFusion"}
"""That fusion makes a float32 Gemm of a quantised MatMul and its bias, where the batch is known: int8 is then slower
than float32."""


AS_THEY_LIE = {"session.disable_prepacking": "1"}
"""ONNX Runtime then maps external weights into memory, and arranges them anew for each product."""


class OnnxRuntimeEngine:
    """One ONNX Runtime session."""

    def __init__(self, session: Any, errors: tuple[type[Exception], ...]) -> None:
        self._session = session
        self._errors = errors
        self.inputs = frozenset(value.name for value in session.get_inputs())
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except self._errors as error:
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        return dict(zip(self._outputs, values, strict=True))


class OnnxRuntimeBackend:
    """One execution provider of ONNX Runtime. If it does not start, that is an error: no other provider replaces it."""

    def __init__(self, name: str, *, prepack_weights: bool = True) -> None:
        # From 1.29 on ONNX Runtime reports usage to its makers, unless this is turned off before the first import.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as native

        # Its exceptions share no class but Exception, so they are listed.
        kinds = [kind for kind in vars(native).values() if isinstance(kind, type)]
        own = [kind for kind in kinds if issubclass(kind, Exception)]
        self._errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, *own)
        self.name = name
        self.prepack_weights = prepack_weights
        self._ort = onnxruntime
        self._provider = PROVIDERS[name]
        active = onnxruntime.get_available_providers()
        if self._provider not in active:
            raise BackendUnavailableError(
                f"backend {name!r} needs {self._provider}, but the installed onnxruntime {self.version} has only "
                f"{active}; uninstall it, then {BACKENDS[name].install}"
            )

    @property
    def version(self) -> str:
        """Version of ONNX Runtime."""
        version: str = self._ort.__version__
        return version

    @cached_property
    def identity(self) -> EngineIdentity:
        """Version, provider and device."""
        if self.name == "onnxruntime":
            how = "" if self.prepack_weights else " without prepacking"
            return EngineIdentity(f"ONNX Runtime{how}", self.version, cpu_name())
        from t2d_runtime.device.nvidia import gpu

        name, driver = gpu()
        return EngineIdentity(f"ONNX Runtime {self._provider}", self.version, name, driver)

    def refusal(self, precision: str) -> str | None:
        """The CPU provider refuses bf16."""
        if precision == "bf16" and self.name == "onnxruntime":
            return "ONNX Runtime's CPU provider has no bfloat16 kernels; use backend 'openvino' for bf16"
        return None

    def precisions(self, bundle: Bundle) -> tuple[str, ...]:
        """Precisions that the bundle stores and this provider does not refuse."""
        return tuple(name for name in bundle.graph_precisions(IMAGE_ENCODER) if self.refusal(name) is None)

    def digests(self, bundle: Bundle, precision: str, graphs: Sequence[str] = ENCODERS) -> tuple[str, ...]:
        """sha256 of the stored graphs."""
        return bundle.graph_digests(precision, graphs)

    def load(self, bundle: Bundle, graph: str, *, precision: str, num_threads: int | None) -> OnnxRuntimeEngine:
        """Open a session on the provider, alone, while the checksum of the graph's external weights is computed."""
        refusal = self.refusal(precision)
        if refusal is not None:
            raise BackendError(f"{refusal}; this backend runs the bundle in {', '.join(self.precisions(bundle))}")
        with bundle.graph_in_use(graph, precision, parsed=True) as path:
            configuration = KEEP_QUANTISED if precision == "int8" else {}
            if not self.prepack_weights:
                configuration = configuration | AS_THEY_LIE
            return self.open_session(path, num_threads, configuration)

    def _why_not(self) -> str:
        """The reason why a GPU provider's library does not load, which ONNX Runtime only logs; else empty."""
        if self._provider == PROVIDERS["onnxruntime"]:
            return ""
        folder, kind = (
            Path(self._ort.__file__).parent / "capi",
            self._provider.removesuffix("ExecutionProvider").lower(),
        )
        try:
            for name in ("shared", kind):
                ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return f" ({error})"
        return ""

    def open_session(
        self, path: Path, num_threads: int | None, configuration: Mapping[str, str] = MappingProxyType({})
    ) -> OnnxRuntimeEngine:
        """A session on an ONNX file, with entries of ONNX Runtime's session configuration."""
        return OnnxRuntimeEngine(self.native_session(path, num_threads, configuration), self._errors)

    def native_session(
        self,
        path: Path,
        num_threads: int | None,
        configuration: Mapping[str, str] = MappingProxyType({}),
        provider_options: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        """An `onnxruntime.InferenceSession` on the provider, with options of that provider. Raises as `load`."""
        options = self._ort.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        if self._provider != PROVIDERS["onnxruntime"]:
            from t2d_runtime.device.nvidia import load_cuda_libraries

            load_cuda_libraries()
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        for key, value in configuration.items():
            options.add_session_config_entry(key, value)
        try:
            providers = [(self._provider, dict(provider_options))]
            session = self._ort.InferenceSession(path, options, providers=providers)
        except self._errors as error:
            raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
        if session.get_providers()[0] != self._provider:
            raise BackendUnavailableError(
                f"backend {self.name!r}: {self._provider} did not start, only {session.get_providers()} did"
                f"{self._why_not()}; see 't2d doctor'"
            )
        return session

    def run_options(self, configuration: Mapping[str, str]) -> Any:
        """`onnxruntime.RunOptions` with these entries."""
        options = self._ort.RunOptions()
        for key, value in configuration.items():
            options.add_run_config_entry(key, value)
        return options
