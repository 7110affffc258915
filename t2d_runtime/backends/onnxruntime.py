"""ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from t2d_runtime.backends.base import Arrays
from t2d_runtime.errors import BackendError, BackendUnavailableError

PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}

FATAL_ONLY = 4
"""ONNX Runtime's log level: its errors reach the caller as exceptions."""


class OnnxRuntimeEngine:
    """One ONNX Runtime session."""

    def __init__(self, session: Any, errors: tuple[type[Exception], ...]) -> None:
        self._session = session
        self._errors = errors
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except self._errors as error:
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        return dict(zip(self._outputs, values, strict=True))


class OnnxRuntimeBackend:
    """One execution provider of ONNX Runtime; operators it lacks are never handed to another device."""

    native_precisions: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as native

        # Its exceptions share no class but Exception, so they are listed.
        kinds = [kind for kind in vars(native).values() if isinstance(kind, type)]
        own = [kind for kind in kinds if issubclass(kind, Exception)]
        self._errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, *own)
        self.name = name
        self._ort = onnxruntime
        self._provider = PROVIDERS[name]
        if self._provider not in onnxruntime.get_available_providers():
            raise BackendUnavailableError(
                f"backend {name!r} needs {self._provider}, this installation of onnxruntime "
                f"{onnxruntime.__version__} has {onnxruntime.get_available_providers()}; "
                "install t2d-runtime[gpu] in place of t2d-runtime[cpu], or choose another backend"
            )

    def description(self) -> str:
        """Engine, version and provider."""
        return f"ONNX Runtime {self._ort.__version__}, {self._provider}"

    def load(self, graph: Path, *, precision: str, num_threads: int | None) -> OnnxRuntimeEngine:
        """Open a session on the provider, alone."""
        if precision == "bf16" and self.name == "onnxruntime":
            raise BackendError(
                "ONNX Runtime's CPU provider has no bfloat16 kernels; use backend 'openvino' for bf16, or fp32"
            )
        options = self._ort.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        try:
            session = self._ort.InferenceSession(graph, options, providers=[self._provider])
        except self._errors as error:
            raise BackendError(f"ONNX Runtime cannot load {graph}: {error}") from error
        if session.get_providers()[0] != self._provider:
            raise BackendUnavailableError(
                f"backend {self.name!r}: {self._provider} did not start, only {session.get_providers()} did; "
                "see 't2d doctor'"
            )
        return OnnxRuntimeEngine(session, self._errors)
