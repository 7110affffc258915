"""Written repositories: configurations that Triton's protobuf reads and the graphs fit; nothing overwritten or half
written. The ONNX Runtime, OpenVINO and TensorRT backends are not run: no package on PyPI has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from t2d_runtime.bundle.engines import (
    ENGINE_MANIFEST,
    SCHEMA_VERSION,
    BuiltGraph,
    EngineIdentityKey,
    EngineManifest,
    Profile,
)
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER, Bundle, record_of
from t2d_runtime.cli import main
from t2d_runtime.errors import BackendError, BundleError, OptionError, OutputError, T2DError
from t2d_runtime.serving.triton import repository
from t2d_runtime.serving.triton.repository import RepositorySettings, write_repository

ALL = ("t2d", "image_encoder", "text_encoder", "segmenter")
TYPES = {"tensor(float)": "TYPE_FP32", "tensor(uint8)": "TYPE_UINT8", "tensor(int32)": "TYPE_INT32"}
TYPES["tensor(int64)"] = "TYPE_INT64"


def config_of(folder: Path) -> Any:
    config = text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    assert config.name == folder.name
    return config


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def dims_of(tensors: Any, config: Any) -> dict[str, tuple[str, list[int]]]:
    """Name -> type and whole shape, as Triton forms it."""
    batch = [-1] if config.max_batch_size else []
    names = model_config_pb2.DataType.Name
    return {tensor.name: (names(tensor.data_type), [*batch, *tensor.dims]) for tensor in tensors}


@pytest.mark.parametrize("backend", ["auto", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino"])
def test_the_configurations_fit_the_graphs(exported_bundle: Path, tmp_path: Path, backend: str) -> None:
    names = write_repository(exported_bundle, tmp_path, RepositorySettings(backend, instances=3))
    assert names == (ALL if backend != "openvino" else ALL[:3])
    gpu = "cuda" in backend or "tensorrt" in backend
    for name in names[1:]:
        config = config_of(tmp_path / name)
        assert config.backend == ("openvino" if backend == "openvino" else "onnxruntime")
        assert [(group.count, group.kind) for group in config.instance_group] == [(3, 1 if gpu else 2)]
        assert config.HasField("dynamic_batching") == (config.max_batch_size > 0)
        assert (config.max_batch_size > 0) == (backend != "openvino" and name != "segmenter")
        accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert [one.name for one in accelerators] == (["tensorrt"] if backend.endswith("tensorrt") else [])
        session = onnxruntime.InferenceSession(tmp_path / name / "1" / config.default_model_filename)
        for found, told in ((session.get_inputs(), config.input), (session.get_outputs(), config.output)):
            expected = {
                value.name: (TYPES[value.type], [size if isinstance(size, int) else -1 for size in value.shape] or [1])
                for value in found
            }
            assert dims_of(told, config) == expected


def test_the_model_of_words_and_pictures(exported_bundle: Path, tmp_path: Path) -> None:
    write_repository(exported_bundle, tmp_path, RepositorySettings("openvino", "bf16", num_threads=3, models=("t2d",)))
    config = config_of(tmp_path / "t2d")
    assert config.backend == "python"
    assert config.max_batch_size == 0
    assert all(tensor.optional for tensor in config.input)
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    assert parameters == {"backend": "openvino", "precision": "bf16", "num_threads": "3", "max_phrases": "2000"}
    copied = Bundle.open(tmp_path / "t2d" / "1" / "bundle")
    assert files_of(copied.folder) == {*copied.manifest.files, "manifest.json"}
    assert copied.manifest == Bundle.open(exported_bundle).manifest


def test_a_bundle_that_is_referred_to(exported_bundle: Path, tmp_path: Path) -> None:
    write_repository(exported_bundle, tmp_path, RepositorySettings(refer=True))
    assert config_of(tmp_path / "t2d").parameters["bundle"].string_value == str(exported_bundle.absolute())
    assert files_of(tmp_path / "t2d") == {"config.pbtxt", "1/model.py"}
    graph = tmp_path / "image_encoder" / "1" / IMAGE_ENCODER
    assert graph.resolve() == (exported_bundle / IMAGE_ENCODER).resolve()


def add_engine(bundle: Path, target: str, precision: str = "fp32") -> None:
    """Files in the place of engines, which are built on a GPU."""
    folder = bundle / "engines" / f"tensorrt-{target.encode().hex()}"
    folder.mkdir(parents=True)
    profiles = {
        IMAGE_ENCODER: {"pixel_values": Profile((1, 3, 224, 224), (1, 3, 224, 224), (5, 3, 224, 224))},
        TEXT_ENCODER: {"input_ids": Profile((1, 1, 2), (20, 7, 12), (16, 80, 77))},
    }
    graphs = {}
    for graph, shapes in profiles.items():
        file = graph.replace(".onnx", ".plan")
        (folder / file).write_bytes(graph.encode())
        graphs[graph] = BuiltGraph(file, record_of(folder / file), shapes, 1, ())
    identity = EngineIdentityKey("tensorrt", "10.9", target, precision, (), {})
    (folder / ENGINE_MANIFEST).write_text(EngineManifest(SCHEMA_VERSION, identity, graphs).to_json())


def test_engines_of_tensorrt(bundle_copy: Path, tmp_path: Path) -> None:
    settings, output = RepositorySettings("tensorrt"), tmp_path / "repository"
    with pytest.raises(BackendError, match="no TensorRT engine in fp32; build it"):
        write_repository(bundle_copy, output, settings)
    add_engine(bundle_copy, "8.6")
    add_engine(bundle_copy, "9.0", "fp16")
    assert write_repository(bundle_copy, output, settings) == ALL[:3]
    for name, most in (("image_encoder", 5), ("text_encoder", 16)):
        config = config_of(output / name)
        assert (config.platform, config.max_batch_size) == ("tensorrt_plan", most)
        assert config.default_model_filename == f"{name}.plan"
        assert (output / name / "1" / f"{name}.plan").read_bytes() == f"{name}.onnx".encode()
    assert (output / "t2d" / "1" / "bundle" / "engines").is_dir()
    add_engine(bundle_copy, "8.9")
    with pytest.raises(BundleError, match=r"several TensorRT engines in fp32: .*8\.6.*8\.9.*; keep one"):
        write_repository(bundle_copy, tmp_path / "other", settings)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"backend": "cuda"}, OptionError, "unknown backend 'cuda'"),
        ({"precision": "fp64"}, OptionError, "precision is 'fp64'"),
        ({"precision": "fast"}, OptionError, "measured where t2d runs"),
        ({"precision": "bf16"}, OptionError, "has no bfloat16"),
        ({"instances": 0}, OptionError, "instances are 0"),
        ({"num_threads": 0}, OptionError, "num_threads is 0"),
        ({"models": ("t2d", "resnet")}, OptionError, "models are"),
        ({"models": ()}, OptionError, "models are"),
        ({"backend": "tensorrt-rtx"}, OptionError, "Triton has no backend for graphs of tensorrt-rtx"),
        ({"backend": "openvino", "models": ("segmenter",)}, OptionError, "inputs without dimensions"),
    ],
)
def test_wrong_settings(
    exported_bundle: Path, tmp_path: Path, changes: dict[str, Any], error: type[T2DError], message: str
) -> None:
    output = tmp_path / "repository"
    with pytest.raises(error, match=message):
        write_repository(exported_bundle, output, replace(RepositorySettings(), **changes))
    assert not output.exists()


def test_models_of_others_stay(exported_bundle: Path, tmp_path: Path) -> None:
    settings = RepositorySettings(models=("t2d",))
    with pytest.raises(OutputError, match="is in the bundle"):
        write_repository(exported_bundle, exported_bundle / "models", settings)
    (tmp_path / "resnet").mkdir()
    write_repository(exported_bundle, tmp_path, settings)
    before = (tmp_path / "t2d").stat().st_ino
    with pytest.raises(OutputError, match=r"t2d exists already; .* --overwrite"):
        write_repository(exported_bundle, tmp_path, settings)
    assert (tmp_path / "t2d").stat().st_ino == before
    write_repository(exported_bundle, tmp_path, settings, overwrite=True)
    assert (tmp_path / "t2d").stat().st_ino != before
    (tmp_path / "image_encoder").mkdir()
    with pytest.raises(OutputError, match="image_encoder exists and is not a model of t2d-runtime"):
        write_repository(exported_bundle, tmp_path, RepositorySettings(), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image_encoder", "resnet", "t2d"]


def test_a_failure_leaves_nothing_behind(bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "repository"
    monkeypatch.setattr(repository, "_place", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        write_repository(bundle_copy, output, RepositorySettings())
    assert not output.exists()
    (bundle_copy / TEXT_ENCODER).write_bytes((bundle_copy / TEXT_ENCODER).read_bytes()[::-1])
    with pytest.raises(BundleError, match="sha256"):
        write_repository(bundle_copy, output, RepositorySettings(models=("t2d",)))
    assert not output.exists()


def test_the_command(exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "repository"
    arguments = ["triton", str(exported_bundle), "--output", str(output), "--backend", "openvino", "--refer"]
    assert main([*arguments, "--models", "text_encoder,t2d", "--instances", "2", "--threads", "4"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"t2d, text_encoder: {output}"
    assert "computes the encoders in bfloat16 on processors that have it" in second
    assert config_of(output / "text_encoder").parameters["INFERENCE_NUM_THREADS"].string_value == "4"
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
