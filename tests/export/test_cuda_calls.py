"""Calls of CUDA that need a GPU to work: names, arguments and answers against cuda-python, and the kernels by NVRTC."""

from __future__ import annotations

import ctypes
import importlib
import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from t2d_runtime.device import cuda
from t2d_runtime.device.cuda import Cuda
from t2d_runtime.errors import BackendError, BackendUnavailableError
from t2d_runtime.masks.cuda import device
from t2d_runtime.masks.cuda.device import CudaDevice, compile_kernels, kernel_names, pointers_to

CAPABILITIES = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0")


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_nvrtc_compiles_every_kernel(capability: str) -> None:
    code = compile_kernels(capability)
    assert code.startswith(b"\x7fELF")
    assert all(b".text." + name.encode() + b"\0" in code for name in kernel_names())


def test_what_nvrtc_refuses_is_said(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"nvrtcCompileProgram failed: .*invalid value for --gpu-architecture"):
        compile_kernels("1.1")
    wrong = tmp_path / "masks.cu"
    wrong.write_text("__global__ void f() { nothing(); }")
    monkeypatch.setattr(device, "SOURCE", wrong)
    with pytest.raises(BackendError, match=r'masks\.cu\(1\): error: identifier "nothing" is undefined'):
        compile_kernels("9.0")


def test_without_nvrtc_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        assert loaded == [("nvrtc",)], "cuda-python does not search PYTHONPATH"
        raise ImportError(f"No module named {name!r}")

    loaded: list[tuple[str, ...]] = []
    monkeypatch.setattr(device, "load_libraries", loaded.append)
    monkeypatch.setattr(device, "importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(BackendUnavailableError, match=r"NVRTC does not load .* 'pip install cuda-python nvidia-cuda"):
        compile_kernels("9.0")


def test_the_runtime_takes_what_the_device_gives_it() -> None:
    """Without a driver every function answers with an error code; it must not be a TypeError."""
    runtime = importlib.import_module("cuda.bindings.runtime")
    pool, most = runtime.cudaMemPool_t(0), importlib.import_module("cuda.bindings.driver").cuuint64_t(2**64 - 1)
    kept = runtime.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
    stream, graph, executable = runtime.cudaStream_t(0), runtime.cudaGraph_t(0), runtime.cudaGraphExec_t(0)
    values = np.zeros(4, np.float32)
    kinds = Cuda().copy_kinds
    for function, arguments, outputs in (
        ("cudaStreamCreateWithFlags", (runtime.cudaStreamNonBlocking,), 1),
        ("cudaDeviceGetDefaultMemPool", (0,), 1),
        ("cudaMemPoolSetAttribute", (pool, kept, most), 0),
        ("cudaMemPoolTrimTo", (pool, 0), 0),
        ("cudaMallocAsync", (16, stream), 1),
        ("cudaFreeAsync", (0, stream), 0),
        ("cudaMemGetInfo", (), 2),
        ("cudaMalloc", (16,), 1),
        ("cudaFree", (0,), 0),
        ("cudaMallocHost", (16,), 1),
        ("cudaFreeHost", (0,), 0),
        ("cudaMemcpyAsync", (0, values.ctypes.data, values.nbytes, kinds[0], stream), 0),
        ("cudaMemcpyAsync", (0, 0, 4, Cuda().copy_within, stream), 0),
        ("cudaStreamBeginCapture", (stream, Cuda().capture_mode), 0),
        ("cudaStreamEndCapture", (stream,), 1),
        ("cudaGraphInstantiate", (graph, 0), 1),
        ("cudaGraphLaunch", (executable, stream), 0),
        ("cudaGraphExecDestroy", (executable,), 0),
        ("cudaGraphDestroy", (graph,), 0),
        ("cudaStreamDestroy", (stream,), 0),
    ):
        if function.endswith("Destroy"):  # a null handle is not passed on
            assert callable(getattr(runtime, function))
            continue
        error, *answers = getattr(runtime, function)(*arguments)
        assert isinstance(error, runtime.cudaError_t), function
        assert len(answers) == outputs, function


def test_the_driver_has_what_the_device_calls() -> None:
    driver = importlib.import_module("cuda.bindings.driver")
    for function, count in (
        ("cuModuleLoadData", 1),
        ("cuModuleGetFunction", 2),
        ("cuLaunchKernel", 11),
        ("cuModuleUnload", 1),
    ):
        signature = (inspect.getdoc(getattr(driver, function)) or "").splitlines()[0]
        assert signature.count(",") + 1 == count, signature
    assert driver.CUresult.CUDA_SUCCESS == 0


class ScriptedRuntime:
    """CUDA's runtime and driver on a GPU that does nothing; notes the calls, and fails where it is told to."""

    def __init__(self) -> None:
        real = importlib.import_module("cuda.bindings.runtime")
        self.cudaError_t, self.cudaMemcpyKind = real.cudaError_t, real.cudaMemcpyKind
        self.cudaStreamCaptureMode, self.cudaMemPoolAttr = real.cudaStreamCaptureMode, real.cudaMemPoolAttr
        self.cudaStreamNonBlocking, self.cuuint64_t = real.cudaStreamNonBlocking, lambda value: value
        self.given: dict[str, tuple[Any, ...]] = {}
        self.CUresult = importlib.import_module("cuda.bindings.driver").CUresult
        self.calls: list[str] = []
        self.failing = ""
        self.packed: list[int] = []

    def __getattr__(self, function: str) -> Any:
        if not function.startswith("cu"):
            raise AttributeError(function)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(function)
            self.given[function] = arguments
            results = self.CUresult if function.startswith(("cuM", "cuL")) else self.cudaError_t
            if function == self.failing:
                return (list(results)[1],)
            if function == "cudaMallocHost":
                self.block = ctypes.create_string_buffer(arguments[0])
                return results(0), ctypes.addressof(self.block)
            if function == "cuLaunchKernel":
                pointers = (ctypes.c_void_p * 2).from_address(arguments[9])
                self.packed = [ctypes.c_int.from_address(pointers[0] or 0).value]
                self.packed.append(int(ctypes.c_float.from_address(pointers[1] or 0).value))
                return (results(0),)
            properties = SimpleNamespace(name=b"GPU", major=9, minor=0)
            return results(0), properties if function == "cudaGetDeviceProperties" else 7

        return call


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedRuntime:
    fake = ScriptedRuntime()
    imported = importlib.import_module

    def give(name: str) -> Any:
        return fake if name in ("cuda.bindings.runtime", "cuda.bindings.driver") else imported(name)

    monkeypatch.setattr(importlib, "import_module", give)
    return fake


def test_a_device_records_launches_as_a_graph_and_gives_all_back(
    scripted: ScriptedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "driver_version", lambda cuda_version: f"580 for {cuda_version}")
    gpu = CudaDevice(Cuda())
    assert gpu.identity[:3] == ("GPU", "9.0", "580 for 7")
    assert scripted.calls.count("cuModuleGetFunction") == len(kernel_names()) == 17
    assert scripted.given["cudaStreamCreateWithFlags"] == (scripted.cudaStreamNonBlocking,)
    staging = gpu.host_array((2, 3), np.float32)
    staging[:] = 1
    assert np.frombuffer(scripted.block, np.float32).tolist() == [1] * 6
    scripted.calls.clear()
    arguments = [ctypes.c_int(5), ctypes.c_float(3.0)]
    recording = gpu.record(lambda: gpu.launch("fill", (1, 1, 1), (256, 1, 1), arguments))
    assert scripted.packed == [5, 3]
    recording.replay()
    recording.close()
    gpu.free_host_array(staging)
    gpu.close()
    assert scripted.calls == [
        "cudaStreamBeginCapture",
        "cuLaunchKernel",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
        "cudaGraphLaunch",
        "cudaGraphExecDestroy",
        "cudaFreeHost",
        "cudaFree",
        "cuModuleUnload",
        "cudaStreamDestroy",
    ]


class Owner:
    """An engine."""


def test_freed_memory_is_kept_as_long_as_its_owner_lives(
    scripted: ScriptedRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    owner = Owner()
    Cuda().keep_freed_memory(owner)
    attribute = scripted.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
    assert scripted.given["cudaMemPoolSetAttribute"] == (7, attribute, 2**64 - 1)
    assert "cudaMemPoolTrimTo" not in scripted.given
    scripted.failing = "cudaMemPoolTrimTo"
    del owner
    assert scripted.given["cudaMemPoolTrimTo"] == (7, 0)
    assert "CUDA's cudaMemPoolTrimTo failed" in caplog.text


def test_what_fails_while_all_is_given_back_is_logged_and_hides_no_error(
    scripted: ScriptedRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = CudaDevice(Cuda())
    for scripted.failing, given_back in (
        ("cudaFree", lambda: gpu.free(1)),
        ("cuModuleUnload", gpu.close),
        ("cudaStreamDestroy", gpu.close),
    ):
        caplog.clear()
        given_back()
        assert f"CUDA's {scripted.failing} failed" in caplog.text


@pytest.mark.parametrize("function", ["cuLaunchKernel", "cudaGraphInstantiate", "cudaStreamBeginCapture"])
def test_a_capture_that_fails_is_ended(scripted: ScriptedRuntime, function: str) -> None:
    gpu = CudaDevice(Cuda())
    scripted.calls.clear()
    scripted.failing = function
    with pytest.raises(BackendError, match=f"CUDA's {function} failed: [cC][uU]"):
        gpu.record(lambda: gpu.launch("fill", (1, 1, 1), (1, 1, 1), [ctypes.c_int(1), ctypes.c_float(1)]))
    ended = 2 if function != "cudaStreamBeginCapture" else 0
    assert [scripted.calls.count(name) for name in ("cudaStreamEndCapture", "cudaGraphDestroy")] == [ended, ended]


def test_a_capture_that_another_thread_ends_is_begun_once_more(
    scripted: ScriptedRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    gpu, attempts = CudaDevice(Cuda()), []

    def work() -> None:
        attempts.append(1)
        scripted.failing = "cuLaunchKernel" if len(attempts) == 1 else ""
        gpu.launch("fill", (1, 1, 1), (1, 1, 1), [ctypes.c_int(1), ctypes.c_float(1)])

    gpu.record(work).replay()
    assert len(attempts) == 2
    assert "CUDA's cuLaunchKernel failed" in caplog.text
    assert "recording once more" in caplog.text


def test_arguments_are_packed_as_addresses() -> None:
    arguments = [ctypes.c_int(4), ctypes.c_longlong(1 << 40)]
    packed = pointers_to(arguments)
    assert ctypes.c_longlong.from_address(packed[1] or 0).value == 1 << 40
