"""TensorRT for RTX, ahead of time without a GPU: every precision of both encoders, for two compute capabilities."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from t2d_export.cli import main
from t2d_export.engines import to_engine
from t2d_export.engines.to_engine import Target, build_engine
from t2d_export.engines.token_table import dequantise_token_tables
from t2d_runtime.backends import tensorrt
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.backends.tensorrt_module import load_tensorrt, make_logger
from t2d_runtime.bundle.engines import WantedEngine, find_engine, read_engine, read_engines
from t2d_runtime.bundle.files import IMAGE_ENCODER, SELFTEST, TEXT_ENCODER, Bundle
from t2d_runtime.device.cuda import Cuda
from t2d_runtime.encoders import WINDOW_BATCH
from t2d_runtime.errors import BackendError, BackendUnavailableError, BundleError, ExportError, OptionError
from t2d_runtime.proof.parity import PRECISIONS
from t2d_runtime.proof.selftest import SelfTestVectors

CAPABILITIES = ("8.6", "8.9")
NO_CAPABILITY = ("1.20", "12", "8.60", "08.6", "8,6", "sm_86", "8.6a", "", " 8.6", "٨.٦")
KNOWN_WARNINGS = {IMAGE_ENCODER: set(), TEXT_ENCODER: {"Make sure input input_ids has Int64 binding."}}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_of_both_encoders_parses_and_builds(bundle_copy: Path, precision: str) -> None:
    for capability in CAPABILITIES:
        folder = build_engine(bundle_copy, Target("tensorrt-rtx", capability), precision)
        bundle = Bundle.open(bundle_copy)
        version, digests = load_tensorrt("tensorrt-rtx").__version__, bundle.graph_digests(precision)
        found, manifest = find_engine(bundle, WantedEngine("tensorrt-rtx", version, capability, precision, digests))
        assert found == folder
        for graph, built in manifest.graphs.items():
            assert built.num_layers > 100
            assert {warning.split(": ", 1)[-1] for warning in built.warnings} == KNOWN_WARNINGS[graph]
            assert len(read_engine(folder, manifest, graph)) > 100_000
    assert len(read_engines(Bundle.open(bundle_copy), "tensorrt-rtx")) == len(CAPABILITIES)
    assert not list((bundle_copy / "engines").glob(".*"))


def test_the_token_table_that_tensorrt_takes_gives_the_same_numbers(exported_bundle: Path) -> None:
    bundle = Bundle.open(exported_bundle)
    ids = SelfTestVectors.load(bundle.file(SELFTEST)).input_ids
    stored = bundle.graph(TEXT_ENCODER, "int8")
    changed = onnx.load(stored)
    assert dequantise_token_tables(changed) == 1
    onnx.checker.check_model(changed, full_check=True)
    int8 = {tensor.name for tensor in changed.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    users = {node.op_type for node in changed.graph.node if int8 & set(node.input)}
    assert users == {"DequantizeLinear", "QuantizeLinear"}, "no stored int8 tensor goes elsewhere"
    as_written = onnxruntime.SessionOptions()
    as_written.add_session_config_entry("session.disable_quant_qdq", "1")
    as_written.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected, got = (
        onnxruntime.InferenceSession(content, as_written).run(None, {"input_ids": ids})[0]
        for content in (stored.read_bytes(), changed.SerializeToString())
    )
    np.testing.assert_array_equal(got, expected)
    for graph, precision in ((TEXT_ENCODER, "fp16"), (IMAGE_ENCODER, "int8")):
        assert dequantise_token_tables(onnx.load(bundle.graph(graph, precision))) == 0


def test_the_command_prints_layers_sizes_and_warnings(bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["engine", str(bundle_copy), "--backend", "tensorrt-rtx", "--compute-capability"]
    assert main([*command, "12.0"]) == 0
    printed = capsys.readouterr().out
    assert "fp32 for 12.0, version" in printed
    assert "layers" in printed
    assert "Int64 binding" in printed


def test_an_engine_takes_as_many_windows_as_it_was_built_for(
    bundle_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["engine", str(bundle_copy), "--backend", "tensorrt-rtx", "--compute-capability", "8.6"]
    assert main([*command, "--max-batch", "16"]) == 0
    (built,) = read_engines(Bundle.open(bundle_copy), "tensorrt-rtx").values()
    profile = built.graphs[IMAGE_ENCODER].profiles["pixel_values"]
    assert [shape[0] for shape in (profile.minimum, profile.optimum, profile.maximum)] == [1, WINDOW_BATCH, 16]
    refused = {
        ("--max-batch", "0"): "max_batch is 0, expected 1 window or more",
        ("--max-batch", "8", "--fused"): "max_batch has no effect, since the fused graph takes one image",
    }
    capsys.readouterr()
    for arguments, message in refused.items():
        assert main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["engine", str(bundle_copy), "--backend", "openvino", "--max-batch", "8"]) == 2
    assert "max_batch has no effect, since openvino takes any number of windows" in capsys.readouterr().err


def test_capabilities_are_judged_before_the_first_engine_is_built(
    bundle_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["engine", str(bundle_copy), "--backend", "tensorrt-rtx", "--compute-capability"]
    for given in ("8.6,1.20", "8.6,", ""):
        assert main([*command, given]) == 2
        assert "builds for a compute capability such as 8.6, got" in capsys.readouterr().err
    assert not list((bundle_copy / "engines").glob("*"))


@pytest.mark.parametrize(
    ("target", "precision", "error", "message"),
    [
        (Target("tensorrt-rtx"), "fp32", OptionError, "builds for a compute capability such as 8.6, got None"),
        *((Target("tensorrt-rtx", name), "fp32", OptionError, f"such as 8.6, got '{name}'") for name in NO_CAPABILITY),
        (Target("tensorrt-rtx", "9.0"), "fp32", OptionError, "'9.0' is not among those offered: .*8.6, 8.9"),
        (Target("onnxruntime"), "fp32", OptionError, "expected tensorrt, tensorrt-rtx, openvino"),
        (Target("openvino", "8.6"), "fp32", OptionError, "--compute-capability is for tensorrt-rtx"),
        (Target("tensorrt-rtx", "8.6"), "fp8", BundleError, "in precision 'fp8'"),
    ],
)
def test_what_cannot_be_built_is_an_error_and_leaves_nothing(
    bundle_copy: Path, target: Target, precision: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_engine(bundle_copy, target, precision)
    assert not list((bundle_copy / "engines").glob("*"))


def test_a_graph_that_tensorrt_cannot_read_is_an_error(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = bundle_copy / "damaged.onnx"
    damaged.write_bytes(b"no graph")
    monkeypatch.setattr(Bundle, "graph", lambda self, name, precision: damaged)
    with pytest.raises(ExportError, match=r"tensorrt-rtx cannot read damaged\.onnx"):
        build_engine(bundle_copy, Target("tensorrt-rtx", "8.6"), "fp32")
    assert not list((bundle_copy / "engines").glob("*"))


def test_without_a_gpu_the_backend_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device(self: Cuda, function: str, *arguments: object) -> None:
        raise tensorrt.BackendError(f"CUDA's {function} failed: cudaErrorInsufficientDriver")

    monkeypatch.setattr(Cuda, "call", no_device)
    with pytest.raises(BackendUnavailableError, match=r"no NVIDIA GPU answers: .*cudaErrorInsufficientDriver"):
        open_backend("tensorrt-rtx")


def test_what_the_runtime_calls_is_in_the_bindings() -> None:
    """What cannot run without a GPU is at least there under its name; TensorRT's own bindings have the same names."""
    trt = load_tensorrt("tensorrt-rtx")
    names = {
        trt: (
            "Builder",
            "Logger",
            "MemoryPoolType",
            "NetworkDefinitionCreationFlag",
            "OnnxParser",
            "Runtime",
            "nptype",
        ),
        trt.Runtime: ("deserialize_cuda_engine",),
        trt.IRuntimeConfig: ("dynamic_shapes_kernel_specialization_strategy",),
        trt.DynamicShapesKernelSpecializationStrategy: ("EAGER",),
        trt.ICudaEngine: (
            "create_execution_context",
            "create_runtime_config",
            "get_tensor_dtype",
            "get_tensor_mode",
            "get_tensor_name",
            "num_io_tensors",
        ),
        trt.IExecutionContext: ("execute_async_v3", "get_tensor_shape", "set_input_shape", "set_tensor_address"),
        trt.IBuilderConfig: ("create_timing_cache", "get_timing_cache", "set_memory_pool_limit", "set_timing_cache"),
        trt.TensorIOMode: ("OUTPUT",),
    }
    missing = {owner: [name for name in wanted if not hasattr(owner, name)] for owner, wanted in names.items()}
    assert not any(missing.values()), missing


def test_cuda_takes_what_the_runtime_gives_it() -> None:
    """Without a driver every function answers with an error code; it must not be a TypeError."""
    runtime = importlib.import_module("cuda.bindings.runtime")
    values, stream = np.zeros(4, np.float32), runtime.cudaStream_t(0)
    address, size = values.ctypes.data, values.nbytes
    to_device, to_host = Cuda().copy_kinds
    for function, arguments, outputs in (
        ("cudaMallocAsync", (size, stream), 1),
        ("cudaMemcpyAsync", (0, address, size, to_device, stream), 0),
        ("cudaMemcpyAsync", (address, 0, size, to_host, stream), 0),
        ("cudaStreamSynchronize", (stream,), 0),
        ("cudaFreeAsync", (0, stream), 0),
        ("cudaGetDeviceProperties", (0,), 1),
        ("cudaDriverGetVersion", (), 1),
    ):
        error, *answers = getattr(runtime, function)(*arguments)
        assert isinstance(error, runtime.cudaError_t), function
        assert error.name.startswith("cuda"), function
        assert len(answers) == outputs, function
    properties = runtime.cudaDeviceProp()
    assert (properties.name.decode(), properties.major, properties.minor, int(stream)) == ("", 0, 0, 0)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float32_is_built_without_tf32(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    trt, flags = load_tensorrt("tensorrt-rtx"), list[bool]()

    def stop(trt: Any, config: Any, capability: str) -> None:
        flags.append(config.get_flag(trt.BuilderFlag.TF32))
        raise ExportError("seen")

    monkeypatch.setattr(to_engine, "_aim", stop)
    source = next(to_engine._encoder_sources(Bundle.open(exported_bundle), precision, 4))
    with pytest.raises(ExportError, match="seen"):
        to_engine._build(trt, Target("tensorrt-rtx", "8.6"), source, precision, tmp_path)
    assert flags == [precision != "fp32"]


def test_why_an_engine_is_refused_is_in_the_log(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorRT's own runtime, which reads an engine's header without a GPU."""
    monkeypatch.setattr(Cuda, "device", lambda self: ("GPU", "8.6", "13000"))
    monkeypatch.setattr(tensorrt, "read_engine", lambda folder, manifest, graph: b"no engine" * 100)
    build_engine(bundle_copy, Target("tensorrt-rtx", "8.6"), "int8")
    backend = open_backend("tensorrt-rtx")
    bundle = Bundle.open(bundle_copy)
    assert backend.precisions(bundle) == ("int8",)
    with pytest.raises(BackendError, match=r"TensorRT for RTX .*, GPU, .* refuses .*, see the log; remove it"):
        backend.load(bundle, IMAGE_ENCODER, precision="int8", num_threads=None)
    assert "magicTag" in caplog.text


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b" and what was timed"


class RefusingConfig:
    """A builder's configuration that takes no timing cache of another device."""

    def __init__(self) -> None:
        self.attached: list[bytes] = []

    def create_timing_cache(self, content: bytes) -> TimingCache:
        return TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content == b"another device":
            return False
        self.attached.append(cache.content)
        return True


@pytest.mark.parametrize(
    ("stored", "attached"), [(None, b""), (b"this device", b"this device"), (b"another device", b"")]
)
def test_tactics_that_were_timed_are_kept_for_the_next_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bytes | None, attached: bytes
) -> None:
    monkeypatch.setattr(to_engine, "subfolder", lambda name: tmp_path)
    monkeypatch.setattr(to_engine, "_this_gpu", lambda: "GPU 8.6")
    monkeypatch.setattr(to_engine, "digest_of", lambda *parts: "key")
    file = tmp_path / "timing-key.bin"
    if stored is not None:
        file.write_bytes(stored)
    config = RefusingConfig()
    builder = SimpleNamespace(build_serialized_network=lambda network, config: b"engine")
    trt = SimpleNamespace(__version__="11.0")
    assert to_engine._build_with_timing_cache(trt, builder, None, config) == b"engine"
    assert config.attached == [attached]
    assert file.read_bytes() == attached + b" and what was timed"


def test_a_capability_that_is_refused_is_an_error() -> None:
    capability = SimpleNamespace(__members__={"SM86": object()})
    config = SimpleNamespace(set_compute_capability=lambda capability, index: False)
    with pytest.raises(ExportError, match=r"refuses to build for compute capability 8\.6"):
        to_engine._aim(SimpleNamespace(ComputeCapability=capability), config, "8.6")


def test_no_input_or_output_must_stand_in_the_hosts_memory(exported_bundle: Path) -> None:
    """Shape tensors would; the runtime puts all into the device's."""
    trt, bundle = load_tensorrt("tensorrt-rtx"), Bundle.open(exported_bundle)
    for source in (*to_engine._encoder_sources(bundle, "fp32", 4), *to_engine._fused_sources(bundle, "fp32")):
        logger = make_logger(trt, lambda message: None)
        builder = trt.Builder(logger)
        network = builder.create_network(to_engine._network_flags(trt))
        assert trt.OnnxParser(network, logger).parse(source.model, str(source.path))
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        assert {tensor.name for tensor in tensors} == set(source.profiles)
        tensors += [network.get_output(i) for i in range(network.num_outputs)]
        assert not [tensor.name for tensor in tensors if tensor.is_shape_tensor]
        assert all(trt.nptype(tensor.dtype) for tensor in tensors)
