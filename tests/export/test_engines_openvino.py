"""OpenVINO as a backend: the precision always said, bf16 as a hint, compiled models cached or built ahead of time."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from t2d_export.cli import main
from t2d_export.engines.to_engine import Target, build_engine
from t2d_runtime import Segmenter
from t2d_runtime.backends.openvino import OpenVinoBackend, OpenVinoEngine
from t2d_runtime.backends.openvino_module import openvino_module
from t2d_runtime.backends.registry import auto_order
from t2d_runtime.bundle.engines import ENGINE_MANIFEST, read_engines
from t2d_runtime.bundle.files import IMAGE_ENCODER, Bundle, record_of
from t2d_runtime.errors import BackendError, BundleError
from t2d_runtime.fused import FusedSegmenter

openvino = openvino_module()

HAS_BFLOAT16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
"""Whether this processor has units for it. Left alone, OpenVINO computes float32 models in bfloat16 on such a one."""

HINTS = {"fp32": "f32", "fp16": "f32", "int8": "bf16" if HAS_BFLOAT16 else "f32"}
HINTS |= {"bf16": "bf16"} if HAS_BFLOAT16 else {}
"""Precisions that run on this processor, and what each is computed in."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("T2D_CACHE_DIR", str(folder))
    return folder


def load(bundle: Path, precision: str) -> OpenVinoEngine:
    return OpenVinoBackend().load(Bundle.open(bundle), IMAGE_ENCODER, precision=precision, num_threads=1)


def tokens(engine: OpenVinoEngine, bundle: Path) -> NDArray[np.float32]:
    size = Bundle.open(bundle).manifest.model.input_size
    values = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
    result: NDArray[np.float32] = engine.run({"pixel_values": values})["patch_tokens"]
    return result


@pytest.mark.parametrize("precision", HINTS)
def test_the_compiled_model_has_the_precision_that_was_asked_for(
    exported_bundle: Path, cache: Path, precision: str
) -> None:
    compiled = load(exported_bundle, precision).compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == HINTS[precision]
    assert compiled.get_property("PERFORMANCE_HINT") == "LATENCY"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_all_that_runs_here_is_known(exported_bundle: Path) -> None:
    assert set(OpenVinoBackend().precisions(Bundle.open(exported_bundle))) == set(HINTS)
    assert (OpenVinoBackend().refusal("bf16") is None) == HAS_BFLOAT16


@pytest.mark.parametrize(("capabilities", "hint"), [(["FP32", "INT8"], "f32"), (["FP32", "BF16", "INT8"], "bf16")])
def test_int8_leaves_the_rest_in_bfloat16_where_a_cpu_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[str], hint: str
) -> None:
    monkeypatch.setattr(openvino.Core, "get_property", lambda self, *names: capabilities)
    assert OpenVinoBackend().hint("int8") == hint
    assert OpenVinoBackend().hint("fp32") == "f32"
    assert (OpenVinoBackend().refusal("bf16") is None) == (hint == "bf16")


def test_without_bfloat16_units_bf16_is_an_error_that_lists_what_runs(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino.Core, "get_property", lambda self, *names: ["FP32", "INT8"])
    with pytest.raises(BackendError, match=r"has no bfloat16 units; this backend runs .* in fp32, fp16, int8$"):
        load(exported_bundle, "bf16")


def test_a_compiled_model_comes_from_the_cache_the_second_time(exported_bundle: Path, cache: Path) -> None:
    engines = [load(exported_bundle, "fp32") for _ in range(2)]
    assert [engine.compiled.get_property("LOADED_FROM_CACHE") for engine in engines] == [False, True]
    np.testing.assert_array_equal(*(tokens(engine, exported_bundle) for engine in engines))


def test_a_compiled_model_is_not_used_beside_a_changed_graph(bundle_copy: Path, cache: Path) -> None:
    load(bundle_copy, "fp32")
    (compiled,) = (cache / "openvino").iterdir()
    path = bundle_copy / IMAGE_ENCODER
    date = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(date, date))
    with pytest.raises(BundleError, match="changed or damaged"):
        load(bundle_copy, "fp32")
    assert not compiled.exists()


def test_another_bundle_at_the_same_path_is_compiled_anew(bundle_copy: Path, cache: Path) -> None:
    """Of the same size and date too, as some archives unpack it."""
    path = bundle_copy / IMAGE_ENCODER
    content, before = path.read_bytes(), path.stat()
    expected = tokens(load(bundle_copy, "fp32"), bundle_copy)
    weights = max((tensor.raw_data for tensor in onnx.load(path).graph.initializer), key=len)
    path.write_bytes(content.replace(weights, np.negative(np.frombuffer(weights, np.float32)).tobytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    rewrite_record(bundle_copy)
    engine = load(bundle_copy, "fp32")
    assert path.stat().st_size == before.st_size
    assert not engine.compiled.get_property("LOADED_FROM_CACHE")
    assert np.abs(tokens(engine, bundle_copy) - expected).max() > 0.1


def rewrite_record(bundle: Path) -> None:
    from dataclasses import replace

    from t2d_export.bundle.bundle_writer import write_manifest
    from t2d_runtime.bundle.files import record_of
    from t2d_runtime.bundle.manifest import Manifest

    manifest = Manifest.from_json((bundle / "manifest.json").read_text())
    files = {**manifest.files, IMAGE_ENCODER: record_of(bundle / IMAGE_ENCODER)}
    write_manifest(bundle, replace(manifest, files=files))


@pytest.mark.parametrize("harm", ["emptied", "truncated", "overwritten"])
def test_a_damaged_cache_is_compiled_anew(exported_bundle: Path, cache: Path, harm: str) -> None:
    expected = tokens(load(exported_bundle, "fp32"), exported_bundle)
    (blob,) = cache.rglob("*.blob")
    content = blob.read_bytes()
    noise = np.random.default_rng(0).bytes(len(content) // 4)
    blob.write_bytes({"emptied": b"", "truncated": content[: len(content) // 2], "overwritten": noise}[harm])
    engine = load(exported_bundle, "fp32")
    assert not engine.compiled.get_property("LOADED_FROM_CACHE")
    np.testing.assert_array_equal(tokens(engine, exported_bundle), expected)


def test_compiled_models_make_room_for_each_other(
    exported_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2D_CACHE_GIB", "0.001")
    for precision in ("fp32", "int8"):
        load(exported_bundle, precision)
    assert len(list((cache / "openvino").iterdir())) == 1
    assert load(exported_bundle, "int8").compiled.get_property("LOADED_FROM_CACHE")


@pytest.mark.parametrize("precision", ["fp32", "bf16" if HAS_BFLOAT16 else "int8"])
def test_an_engine_built_ahead_of_time_is_taken_in_place_of_compiling(
    bundle_copy: Path, cache: Path, precision: str
) -> None:
    expected = tokens(load(bundle_copy, precision), bundle_copy)
    shutil.rmtree(cache)
    assert main(["engine", str(bundle_copy), "--backend", "openvino", "--precision", precision]) == 0
    engine = load(bundle_copy, precision)
    assert not cache.exists()
    assert engine.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == HINTS[precision]
    assert engine.compiled.get_property("INFERENCE_NUM_THREADS") == 1
    np.testing.assert_array_equal(tokens(engine, bundle_copy), expected)


def test_a_built_engine_proves_itself_like_any_other(bundle_copy: Path, cache: Path) -> None:
    Segmenter.open(bundle_copy, backend="openvino")
    build_engine(bundle_copy, Target("openvino"), "fp32")
    Segmenter.open(bundle_copy, backend="openvino")
    assert len(list((cache / "verdicts").iterdir())) == 2


def test_the_fused_graph_is_compiled_ahead_of_time_too(bundle_copy: Path, cache: Path) -> None:
    build_engine(bundle_copy, Target("openvino"), "fp32", fused=True)
    FusedSegmenter.open(bundle_copy, backend="openvino")
    assert not (cache / "openvino").exists()
    load(bundle_copy, "fp32")  # the encoders were not built
    assert (cache / "openvino").exists()


@pytest.mark.parametrize("changed", [{"target": "another"}, {"version": "1"}, {"onnx_sha256": ("0",)}])
def test_an_engine_for_elsewhere_is_said_and_the_graph_compiled(
    bundle_copy: Path, cache: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, Any]
) -> None:
    folder = build_engine(bundle_copy, Target("openvino"), "fp32")
    manifest = read_engines(Bundle.open(bundle_copy), "openvino")[folder]
    foreign = dataclasses.replace(manifest, identity=dataclasses.replace(manifest.identity, **changed))
    (folder / ENGINE_MANIFEST).write_text(foreign.to_json())
    assert not load(bundle_copy, "fp32").compiled.get_property("LOADED_FROM_CACHE")
    assert f"not used: {folder.name} (version " in caplog.text


@pytest.mark.parametrize("resealed", [False, True])
def test_a_harmed_engine_is_refused(bundle_copy: Path, cache: Path, resealed: bool) -> None:
    folder = build_engine(bundle_copy, Target("openvino"), "fp32")
    path = folder / "image_encoder.blob"
    path.write_bytes(path.read_bytes()[:1000])
    if resealed:
        manifest = read_engines(Bundle.open(bundle_copy), "openvino")[folder]
        harmed = dataclasses.replace(manifest.graphs[IMAGE_ENCODER], record=record_of(path))
        graphs = {**manifest.graphs, IMAGE_ENCODER: harmed}
        (folder / ENGINE_MANIFEST).write_text(dataclasses.replace(manifest, graphs=graphs).to_json())
    with pytest.raises(BackendError, match=r"remove .* build (it|the engine) again with 't2d-export engine'"):
        load(bundle_copy, "fp32")


def test_a_precision_that_this_processor_lacks_is_not_built(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino.Core, "get_property", lambda self, *names: ["FP32", "INT8"])
    with pytest.raises(BackendError, match="has no bfloat16 units"):
        build_engine(bundle_copy, Target("openvino"), "bf16")
    assert not (bundle_copy / "engines").exists()


def test_every_precision_opens_and_proves_itself(exported_bundle: Path, cache: Path) -> None:
    bundle = Bundle.open(exported_bundle)
    for precision in OpenVinoBackend().precisions(bundle):
        segmenter = Segmenter.open(exported_bundle, backend="openvino", precision=precision)
        assert segmenter.precision == precision
    assert len(list((cache / "verdicts").iterdir())) >= 3


def test_auto_takes_the_first_of_this_processor_and_says_so(
    exported_bundle: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert Segmenter.open(exported_bundle).backend_name == auto_order()[0]
    assert f"backend auto: {auto_order()[0]} opens" in caplog.text


def test_a_graph_that_cannot_be_compiled_is_a_backend_error(exported_bundle: Path, tmp_path: Path, cache: Path) -> None:
    bundle = Path(shutil.copytree(exported_bundle, tmp_path / "bundle"))
    (bundle / IMAGE_ENCODER).write_bytes(b"no graph")
    rewrite_record(bundle)
    with pytest.raises(BackendError, match="OpenVINO cannot compile"):
        load(bundle, "fp32")
