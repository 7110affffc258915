"""ONNX Runtime on a GPU, scripted: options of its providers, sessions bound to memory, CUDA graphs."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from t2d_runtime.backends import onnxruntime as module
from t2d_runtime.backends import onnxruntime_session
from t2d_runtime.backends.on_device import BoundSession
from t2d_runtime.backends.onnxruntime import PROVIDERS, OnnxRuntimeBackend
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeGpuEngine
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from t2d_runtime.errors import BackendError, BackendUnavailableError
from tests.runtime.cuda_on_cpu import HostCuda


class Session:
    """A session of a GPU's provider that notes what it is given."""

    def __init__(self, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.providers, self.fallback = named["providers"], named["enable_fallback"]
        self.runs: list[dict[str, str]] = []
        self.bound: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def get_providers(self) -> list[str]:
        return [name for name, _ in self.providers]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="pixel_values")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="patch_tokens", shape=["batch", 4, 8])]

    def io_binding(self) -> Any:
        def given(*arguments: Any) -> None:
            self.bound.append(arguments)

        return SimpleNamespace(bind_input=given, bind_output=given)

    def run_with_iobinding(self, binding: Any, options: onnxruntime.RunOptions | None = None) -> None:
        if self.failure is not None:
            raise self.failure
        if options is None:
            self.bound.append(("run",))
            return
        keys = ("gpu_graph_id", "disable_synchronize_execution_providers")
        self.runs.append({key: value for key in keys if (value := entry(options, key)) is not None})


def entry(options: onnxruntime.RunOptions, key: str) -> str | None:
    try:
        return str(options.get_run_config_entry(key))
    except RuntimeError:
        return None


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    made: list[Session] = []

    def session(*given: Any, **named: Any) -> Session:
        made.append(Session(given, named))
        return made[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(module, "load_libraries", lambda names: None)
    monkeypatch.setattr(module, "has_tensorrt", lambda: True)
    monkeypatch.setattr(module, "gpu", lambda: ("NVIDIA Something", "580.1"))
    return made


def bound(bundle: Path, precision: str, cuda: HostCuda, name: str = "onnxruntime-cuda", **how: Any) -> BoundSession:
    backend, opened = OnnxRuntimeBackend(name), Bundle.open(bundle)
    return BoundSession(backend, opened, IMAGE_ENCODER, cuda, precision=precision, **how)  # type: ignore[arg-type]


def test_every_batch_has_a_cuda_graph_of_its_own(exported_bundle: Path, sessions: list[Session]) -> None:
    cuda = HostCuda()
    encoder = bound(exported_bundle, "fp32", cuda, cuda_graph=True)
    (session,) = sessions
    for batch in (1, 4):
        call = encoder.bind({"pixel_values": np.zeros((batch, 3, 2, 2), np.float32)})
        call()
        call()
        assert sorted(cuda.sizes.values()) == sorted((4 * batch * 12, 4 * batch * 32)), "the batch before is freed"
    assert [run["gpu_graph_id"] for run in session.runs] == ["1", "1", "2", "2"]
    assert {run["disable_synchronize_execution_providers"] for run in session.runs} == {"1"}
    assert session.providers[0][1]["enable_cuda_graph"] == "1"
    plain = bound(exported_bundle, "fp32", cuda)
    plain.bind({"pixel_values": np.zeros((1, 3, 2, 2), np.float32)})()
    assert "gpu_graph_id" not in sessions[1].runs[0]


@pytest.mark.parametrize("kind", [onnxruntime.capi.onnxruntime_pybind11_state.Fail, RuntimeError])
def test_what_onnx_runtime_raises_is_a_backend_error(
    exported_bundle: Path, sessions: list[Session], kind: type[Exception]
) -> None:
    call = bound(exported_bundle, "fp32", HostCuda()).bind({"pixel_values": np.zeros((64, 3, 2, 2), np.float32)})
    for told in ("Failed to allocate memory for requested buffer of size 1", "CUDA failure 2: out of memory"):
        sessions[0].failure = kind(f"cuda_call.cc:154 void onnxruntime::CudaCall(ERRTYPE) [T = int] {told} ; GPU=0")
        with pytest.raises(BackendError, match=f"ONNX Runtime failed: {told}$"):
            call()
    sessions[0].failure = kind("Invalid feed")
    with pytest.raises(BackendError, match=r"ONNX Runtime failed: Invalid feed$"):
        call()


def test_outputs_are_left_on_the_gpu_when_the_work_has_ended(
    exported_bundle: Path, sessions: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = HostCuda()
    monkeypatch.setattr(onnxruntime_session, "Cuda", lambda: cuda)
    engine = OnnxRuntimeBackend("onnxruntime-cuda").load(
        Bundle.open(exported_bundle), IMAGE_ENCODER, precision="fp32", num_threads=None
    )
    assert isinstance(engine, OnnxRuntimeGpuEngine)
    (session,) = sessions
    run = session.run_with_iobinding

    def filling(binding: Any) -> None:
        cuda.calls.append("run")
        ctypes.memset(session.bound[1][-1], 0, 4 * 3 * 4 * 8)
        run(binding)

    monkeypatch.setattr(session, "run_with_iobinding", filling)
    pixels = {"pixel_values": np.ones((2, 1, 2, 3), np.float32).T}  # not in the order of rows
    ((name, array),) = engine.run_on_device(pixels)[0].items()
    (_, memory, device, dtype, shape, _), output, _ = session.bound
    assert (memory, device, dtype, shape) == ("cuda", 0, np.float32, (3, 2, 1, 2))
    assert output == ("patch_tokens", "cuda", 0, np.float32, (3, 4, 8), array.address)
    assert cuda.calls.index("cudaMemcpyAsync") < cuda.calls.index("cudaStreamSynchronize") < cuda.calls.index("run")
    assert (name, array.shape) == ("patch_tokens", (3, 4, 8))
    assert set(cuda.memory) == {array.address}, "inputs are freed"
    assert np.array_equal(array.to_host(), np.zeros((3, 4, 8), np.float32))
    session.failure = RuntimeError("CUDA failure 2: out of memory ; GPU=0")
    with pytest.raises(BackendError, match=r"ONNX Runtime failed: CUDA failure 2: out of memory$"):
        engine.run_on_device(pixels)
    del array
    assert not cuda.memory


@pytest.mark.parametrize(("precision", "options"), [("fp32", {"use_tf32": "0"}), ("fp16", {}), ("int8", {})])
def test_float32_is_not_rounded_to_tf32(
    exported_bundle: Path, sessions: list[Session], precision: str, options: dict[str, str]
) -> None:
    backend = OnnxRuntimeBackend("onnxruntime-cuda")
    backend.load(Bundle.open(exported_bundle), IMAGE_ENCODER, precision=precision, num_threads=None)
    bound(exported_bundle, precision, HostCuda())
    provider = PROVIDERS["onnxruntime-cuda"]
    assert sessions[0].providers == [(provider, options)]
    assert sessions[1].providers == [(provider, {**options, "user_compute_stream": "7"})]


def test_tensorrt_keeps_its_engines_for_each_graph_and_leaves_nodes_to_cuda(
    exported_bundle: Path, sessions: list[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2D_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    backend, bundle = OnnxRuntimeBackend("onnxruntime-tensorrt"), Bundle.open(exported_bundle)
    for graph in (IMAGE_ENCODER, IMAGE_ENCODER, TEXT_ENCODER):
        backend.load(bundle, graph, precision="fp32", num_threads=None)
    bound(exported_bundle, "fp32", HostCuda(), "onnxruntime-tensorrt")
    folders = []
    for session in sessions:
        (first, options), (second, shared) = session.providers
        assert (first, second) == (PROVIDERS["onnxruntime-tensorrt"], PROVIDERS["onnxruntime-cuda"])
        assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
        assert Path(options["trt_engine_cache_path"]).is_relative_to(tmp_path)
        folders.append(options["trt_engine_cache_path"])
    assert folders[0] == folders[1] == folders[3] != folders[2]
    assert shared == {"user_compute_stream": "7"}
    assert "TensorrtExecutionProvider" in backend.identity.engine
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    exact = OnnxRuntimeBackend("onnxruntime-tensorrt")
    assert exact.identity != backend.identity, "a verdict holds for one way to round"
    assert exact.provider_options(bundle, IMAGE_ENCODER, "fp32")["trt_engine_cache_path"] not in folders
    monkeypatch.setenv("T2D_CACHE_GIB", "0")
    assert backend.provider_options(bundle, IMAGE_ENCODER, "fp32") == {}


def test_tensorrt_without_its_libraries_is_not_there(sessions: list[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_tensorrt", lambda: False)
    with pytest.raises(BackendUnavailableError, match="'onnxruntime-tensorrt' needs TensorRT's libraries"):
        OnnxRuntimeBackend("onnxruntime-tensorrt")
    assert not sessions


def test_a_provider_that_refuses_is_heard_and_not_replaced(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ONNX Runtime's own fallback, which prints the reason and goes on with the processor."""
    real = onnxruntime.InferenceSession._create_inference_session

    def refusing(self: Any, providers: Any, *others: Any) -> None:
        if isinstance(providers[0], tuple):
            raise RuntimeError("CUDA failure 999: unknown error")
        real(self, providers, *others)

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", refusing)
    backend, bundle = OnnxRuntimeBackend("onnxruntime"), Bundle.open(exported_bundle)
    with pytest.raises(BackendError, match=r"cannot load .*: CUDA failure 999"):
        backend.native_session(bundle.graph(IMAGE_ENCODER), None, provider_options={"an": "option"})
