"""How TensorRT engines are fed, on a stand-in for the device: no GPU is needed, and none is proved here."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from t2d_runtime.backends.tensorrt import FusedTensorRtEngine, TensorRtEngine, make_context
from t2d_runtime.bundle.engines import Profile
from t2d_runtime.device.cuda import Cuda
from t2d_runtime.errors import BackendError

BATCH = {"values": Profile((1, 3), (1, 3), (2, 3))}
SCALED = {"values": Profile((1, 3), (2, 3), (4, 3)), "factor": Profile((), (), ())}


class Device:
    """Memory by address, and an engine that multiplies all of its inputs."""

    copy_kinds = ("to device", "to host")

    def __init__(self, profiles: dict[str, Profile]) -> None:
        self.profiles = profiles
        self.memory: dict[int, Any] = {}
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.runs: list[dict[str, tuple[int, ...]]] = []
        self.refused: set[str] = set()
        self.broken = False
        self.keeps = False
        self.calls: list[str] = []

    def give_back(self, function: str, *arguments: Any) -> None:
        Cuda.give_back(self, function, *arguments)  # type: ignore[arg-type]

    def upload(self, address: int, array: Any, stream: Any) -> None:
        Cuda.upload(self, address, array, stream)  # type: ignore[arg-type]

    def download(self, array: Any, address: int, stream: Any) -> None:
        Cuda.download(self, array, address, stream)  # type: ignore[arg-type]

    def stream(self) -> int:
        return 1

    def keep_freed_memory(self, owner: object) -> None:
        self.keeps = True

    def call(self, function: str, *arguments: Any) -> Any:
        self.calls.append(function)
        if self.broken and function in ("cudaStreamSynchronize", "cudaFreeAsync"):
            raise BackendError(f"CUDA's {function} failed: cudaErrorIllegalAddress")
        match function:
            case "cudaMallocAsync" | "cudaMalloc":
                buffer = ctypes.create_string_buffer(arguments[0])
                self.memory[ctypes.addressof(buffer)] = buffer
                return ctypes.addressof(buffer)
            case "cudaMemcpyAsync":
                target, source, count = arguments[:3]
                ctypes.memmove(target, source, count)
            case "cudaFreeAsync" | "cudaFree":
                del self.memory[arguments[0]]
        return None

    # What an execution context does.
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, most = self.profiles[name].minimum, self.profiles[name].maximum
        self.shapes[name] = shape
        return len(shape) == len(least) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name not in self.refused

    def get_tensor_shape(self, _: str) -> tuple[int, ...]:
        return self.shapes["values"]

    def execute_async_v3(self, _: int) -> bool:
        def view(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
            return np.frombuffer(self.memory[self.addresses[name]], np.float32, int(np.prod(shape))).reshape(shape)

        self.runs.append(dict(self.shapes))
        self.calls.append("execute")
        product = np.prod([np.ones(1, np.float32)], axis=0)
        for name, shape in self.shapes.items():
            product = product * view(name, shape)
        view("result", self.shapes["values"])[:] = product
        return True


def engine_on(device: Device, of_result: str = "float32") -> TensorRtEngine:
    names = [*device.profiles, "result"]
    modes = SimpleNamespace(OUTPUT="output")
    engine = SimpleNamespace(
        create_execution_context=lambda: device,
        num_io_tensors=len(names),
        get_tensor_name=lambda index: names[index],
        get_tensor_mode=lambda name: "output" if name == "result" else "input",
        get_tensor_dtype=lambda name: of_result if name == "result" else "float32",
    )
    trt = SimpleNamespace(TensorIOMode=modes, nptype=lambda dtype: np.dtype(dtype))
    return TensorRtEngine(trt, device, engine, device.profiles)  # type: ignore[arg-type]


def test_a_batch_above_the_engines_is_run_in_parts() -> None:
    device = Device(BATCH)
    values = np.arange(15, dtype=np.float32).reshape(5, 3)
    assert np.array_equal(engine_on(device).run({"values": values})["result"], values)
    assert [run["values"] for run in device.runs] == [(2, 3), (2, 3), (1, 3)]
    assert device.memory == {}


def test_outputs_stay_on_the_device_as_long_as_their_arrays() -> None:
    device = Device(BATCH)
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    parts = engine_on(device).run_on_device({"values": values})
    arrays = [part["result"] for part in parts]
    assert [array.shape for array in arrays] == [(2, 3), (1, 3)]
    assert set(device.memory) == {array.address for array in arrays}, "inputs are freed"
    ordered = [call for call in device.calls if call in ("execute", "cudaStreamSynchronize")]
    assert ordered == ["execute", "cudaStreamSynchronize"] * 2, "other streams read what has ended"
    assert np.array_equal(np.concatenate([array.to_host() for array in arrays]), values)
    del parts, arrays[0]
    assert set(device.memory) == {arrays[0].address}
    arrays.clear()
    assert device.memory == {}


def test_a_failing_run_leaves_nothing_on_the_device() -> None:
    device = Device(BATCH)
    device.refused = {"result"}
    with pytest.raises(BackendError, match="refuses memory for result"):
        engine_on(device).run_on_device({"values": np.zeros((1, 3), np.float32)})
    assert device.memory == {}
    halves = engine_on(Device(BATCH), of_result="float16")
    with pytest.raises(BackendError, match="output result is float16, expected float32; build the engine again"):
        halves.run_on_device({"values": np.zeros((1, 3), np.float32)})


def test_scalars_stay_scalars() -> None:
    device = Device(SCALED)
    values = np.arange(6, dtype=np.float32).reshape(3, 2).T  # not in the order of rows
    values = np.asarray(values.reshape(2, 3))
    result = engine_on(device).run({"values": values, "factor": np.array(2, np.float32)})["result"]
    assert np.array_equal(result, 2 * values)
    assert device.runs == [{"values": (2, 3), "factor": ()}]


def test_a_shape_that_the_engine_does_not_take_is_said_and_nothing_is_kept() -> None:
    device = Device(SCALED)
    with pytest.raises(BackendError, match=r"takes values of shapes from \(1, 3\) to \(4, 3\), got \(5, 3\)"):
        engine_on(device).run({"values": np.zeros((5, 3), np.float32), "factor": np.array(2, np.float32)})
    assert device.memory == {}


def test_numbers_of_another_width_are_converted() -> None:
    values = np.arange(6).reshape(2, 3)  # int64, eight bytes each, where the engine reads four
    assert np.array_equal(engine_on(Device(BATCH)).run({"values": values})["result"], values)


def test_memory_that_tensorrt_refuses_is_an_error_and_nothing_is_kept() -> None:
    device = Device(BATCH)
    device.refused = {"result"}
    with pytest.raises(BackendError, match="refuses memory for result"):
        engine_on(device).run({"values": np.zeros((1, 3), np.float32)})
    assert device.memory == {}


def test_a_shape_that_is_unknown_before_the_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(BATCH)
    monkeypatch.setattr(device, "get_tensor_shape", lambda name: (-1, 3))
    with pytest.raises(BackendError, match=r"does not know the shape of result before it runs, only \(-1, 3\)"):
        engine_on(device).run({"values": np.zeros((1, 3), np.float32)})


def test_bound_inputs_stay_on_the_device_while_the_engine_runs_again() -> None:
    device = Device(SCALED)
    engine = engine_on(device)
    launch = engine.bind({"values": np.ones((2, 3), np.float32), "factor": np.array(3, np.float32)})
    assert device.runs == []
    for _ in range(2):
        launch()
    result = np.frombuffer(device.memory[device.addresses["result"]], np.float32)
    assert result.tolist() == [3] * 6
    assert len(device.runs) == 2
    first = set(device.memory)
    engine.bind({"values": np.ones((3, 3), np.float32), "factor": np.array(3, np.float32)})
    assert len(device.memory) == len(first) == 3
    with pytest.raises(BackendError, match=r"takes values of shapes from \(1, 3\) to \(4, 3\), got \(5, 3\)"):
        engine.bind({"values": np.ones((5, 3), np.float32), "factor": np.array(3, np.float32)})
    assert device.memory == {}


def test_memory_that_a_run_frees_is_kept_for_the_next() -> None:
    device = Device(BATCH)
    engine_on(device)
    assert device.keeps


def test_tensorrt_for_rtx_waits_for_the_kernels_of_a_shape() -> None:
    engine = SimpleNamespace(create_runtime_config=SimpleNamespace, create_execution_context=lambda *given: given)
    assert make_context(SimpleNamespace(), engine) == ()
    strategies = SimpleNamespace(LAZY=0, EAGER=1)
    (config,) = make_context(SimpleNamespace(DynamicShapesKernelSpecializationStrategy=strategies), engine)
    assert config.dynamic_shapes_kernel_specialization_strategy == strategies.EAGER


def test_the_first_failure_of_a_run_is_the_one_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    device = Device(BATCH)
    device.broken = True
    with pytest.raises(BackendError, match="cudaStreamSynchronize failed: cudaErrorIllegalAddress"):
        engine_on(device).run({"values": np.zeros((1, 3), np.float32)})
    assert caplog.text.count("cudaFreeAsync failed") == 2


def test_the_fused_graph_has_an_engine_for_each_number_of_iterations() -> None:
    plain, refined = (engine_on(Device(BATCH)) for _ in range(2))
    fused = FusedTensorRtEngine(plain, refined, 10)
    values = np.ones((1, 3), np.float32)
    for iterations in (0, 10):
        assert np.array_equal(fused.run({"values": values, "pamr_iterations": np.array(iterations)})["result"], values)
    with pytest.raises(BackendError, match=r"built for \[0, 10\] iterations of PAMR, 3 were asked for"):
        fused.run({"values": values, "pamr_iterations": np.array(3)})
