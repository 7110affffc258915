"""ONNX Runtime."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from t2d_runtime.backends.base import EngineIdentity
from t2d_runtime.backends.names import BACKENDS
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeEngine, OnnxRuntimeGpuEngine, reason_of
from t2d_runtime.bundle.files import ENCODERS, IMAGE_ENCODER, Bundle
from t2d_runtime.device.cpu import cpu_name
from t2d_runtime.device.nvidia import CUDA_LIBRARIES, TENSORRT_LIBRARIES, gpu, has_tensorrt, load_libraries
from t2d_runtime.errors import BackendError, BackendUnavailableError
from t2d_runtime.storage.cache import digest_of
from t2d_runtime.storage.compiled_models import compiled_folder, keep_within_limit

CUDA, TENSORRT = "onnxruntime-cuda", "onnxruntime-tensorrt"

PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    CUDA: "CUDAExecutionProvider",
    TENSORRT: "TensorrtExecutionProvider",
}

TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""Environment variable of NVIDIA's libraries; 0 forbids them TF32. TensorRT's provider has no option for it."""

NO_TENSORRT = "needs TensorRT's libraries, of the version that onnxruntime-gpu names: pip install 'tensorrt<11'"
"""The end of an error message. Version 1.31 was built for TensorRT 10."""

SHARED_OPTIONS = ("user_compute_stream",)
"""Options that CUDA's provider takes too where it stands behind TensorRT's."""

FATAL_ONLY = 4
"""ONNX Runtime's log level: its errors reach the caller as exceptions."""

OF_INT8 = {"optimization.disable_specified_optimizers": "MatMulAddFusion", "session.x64quantprecision": "1"}
"""Session entries of int8. That fusion makes a float32 Gemm of a quantised MatMul and its bias, where the batch is
known: int8 is then slower than float32. Without VNNI, sums of two byte products saturate in 16 bits, unless they are
asked to be precise; elsewhere the second entry changes nothing."""


class OnnxRuntimeBackend:
    """One execution provider of ONNX Runtime. If it does not start, that is an error: no other provider replaces it."""

    def __init__(self, name: str) -> None:
        # From 1.29 on ONNX Runtime reports usage to its makers, unless this is turned off before the first import.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as native

        # Its exceptions share no class but Exception, so they are listed.
        kinds = [kind for kind in vars(native).values() if isinstance(kind, type)]
        own = [kind for kind in kinds if issubclass(kind, Exception)]
        self.errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, *own)
        self.name = name
        self._ort = onnxruntime
        self._provider = PROVIDERS[name]
        active = onnxruntime.get_available_providers()
        if self._provider not in active:
            raise BackendUnavailableError(
                f"backend {name!r} needs {self._provider}, but the installed onnxruntime {self.version} has only "
                f"{active}; uninstall it, then {BACKENDS[name].install}"
            )
        if name == TENSORRT and not has_tensorrt():
            raise BackendUnavailableError(f"backend {name!r} {NO_TENSORRT}")

    @property
    def version(self) -> str:
        """Version of ONNX Runtime."""
        version: str = self._ort.__version__
        return version

    @cached_property
    def identity(self) -> EngineIdentity:
        """Version, provider and device; for TensorRT also how the environment has it round float32."""
        if self.name == "onnxruntime":
            return EngineIdentity("ONNX Runtime", self.version, cpu_name())
        name, driver = gpu()
        rounding = os.environ.get(TF32_OVERRIDE) if self.name == TENSORRT else None
        engine = f"ONNX Runtime {self._provider}{f' with {TF32_OVERRIDE}={rounding}' if rounding else ''}"
        return EngineIdentity(engine, self.version, name, driver)

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
            configuration = OF_INT8 if precision == "int8" else {}
            return self.open_session(path, num_threads, configuration, self.provider_options(bundle, graph, precision))

    def provider_options(self, bundle: Bundle, graph: str, precision: str) -> dict[str, str]:
        """Options of a GPU's provider: float32 stays float32, and TensorRT keeps what it builds; empty on the CPU."""
        if self.name == TENSORRT:
            return self._kept_engines(bundle.graph_digests(precision, (graph,)), precision)
        return {"use_tf32": "0"} if self.name == CUDA and precision == "fp32" else {}

    def _kept_engines(self, digests: tuple[str, ...], precision: str) -> dict[str, str]:
        """Options with which TensorRT reads the engines that it built at an earlier start, in a folder for each graph.

        It names them after the graph's nodes, which graphs with other weights have too.
        """
        key = digest_of(str(self.identity), digests, precision)
        folder = compiled_folder(TENSORRT, key)
        if folder is None:
            return {}
        keep_within_limit(folder)
        kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
        return kept | {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder)}

    def _why_not(self) -> str:
        """The reason why a GPU provider's library does not load, which ONNX Runtime only logs; else empty."""
        if self.name == "onnxruntime":
            return ""
        folder = Path(self._ort.__file__).parent / "capi"
        form = "{}.dll" if sys.platform == "win32" else "lib{}.so"
        try:
            for name in ("shared", self._provider.removesuffix("ExecutionProvider").lower()):
                library = folder / form.format(f"onnxruntime_providers_{name}")
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return f" ({error})"
        return ""

    def open_session(
        self,
        path: Path,
        num_threads: int | None,
        configuration: Mapping[str, str] = MappingProxyType({}),
        provider_options: Mapping[str, str] = MappingProxyType({}),
    ) -> OnnxRuntimeEngine:
        """A session on an ONNX file. Arguments and errors are those of `native_session`."""
        session = self.native_session(path, num_threads, configuration, provider_options)
        kind = OnnxRuntimeEngine if self.name == "onnxruntime" else OnnxRuntimeGpuEngine
        return kind(session, self.errors)

    def native_session(
        self,
        path: Path,
        num_threads: int | None,
        configuration: Mapping[str, str] = MappingProxyType({}),
        provider_options: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        """An `onnxruntime.InferenceSession` on the provider, with session entries and options of that provider.

        CUDA's provider takes the nodes that TensorRT's leaves. Raises as `load`.
        """
        options = self._ort.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        providers = [(self._provider, dict(provider_options))]
        if self.name != "onnxruntime":
            load_libraries(CUDA_LIBRARIES)
        if self.name == TENSORRT:
            load_libraries(TENSORRT_LIBRARIES)
            shared = {key: value for key, value in provider_options.items() if key in SHARED_OPTIONS}
            providers.append((PROVIDERS[CUDA], shared))
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        for key, value in configuration.items():
            options.add_session_config_entry(key, value)
        try:
            # Its fallback would print the reason and open the session on the processor.
            session = self._ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
        except self.errors as error:
            raise BackendError(f"ONNX Runtime cannot load {path}: {reason_of(error)}{self._why_not()}") from error
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
