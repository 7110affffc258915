"""The fused graph as exported: what it holds, what it shares, that OpenVINO agrees, that faults are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnxscript import GraphBuilder

from t2d_export.bundle.bundle_writer import file_records, write_manifest
from t2d_export.bundle.verify_fused import check_fusible, require_fused_verified, verify_fused
from t2d_export.encoders import to_onnx
from t2d_export.engines.fused_engine import with_iterations
from t2d_export.engines.to_engine import Target, build_engine
from t2d_export.export import ExportSettings, export_bundle
from t2d_export.fused import pamr as pamr_graph
from t2d_export.fused import resize as fused_resize
from t2d_export.fused.graph import write_fused
from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.backends.openvino import OpenVinoBackend
from t2d_runtime.bundle.engines import REFINED_SEGMENTER, read_engines
from t2d_runtime.bundle.files import IMAGE_ENCODER, SEGMENTER, SELFTEST, Bundle
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS, Manifest, PamrSettings, WindowSettings
from t2d_runtime.errors import BackendError, OptionError, VerificationError
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.windows import resized_size
from t2d_runtime.proof.selftest import SelfTestVectors

INPUTS = {
    "image": "tensor(uint8) [1, 'height', 'width', 3]",
    "text_embeds": "tensor(float) ['classes', 192]",
    "thresholds": "tensor(float) ['classes']",
    "cleaning_weight": "tensor(float) []",
    "pamr_iterations": "tensor(int64) []",
}
OUTPUTS = {
    "label_map": "tensor(int32) ['height', 'width']",
    "scores": "tensor(float) ['classes', 'window_height', 'window_width']",
}


@pytest.fixture(scope="module")
def openvino_fused(exported_bundle: Path) -> FusedSegmenter:
    return FusedSegmenter.open(exported_bundle, backend="openvino")


@pytest.fixture(scope="module")
def words(exported_bundle: Path) -> ClassEmbeddings:
    bundle = Bundle.open(exported_bundle)
    vectors = SelfTestVectors.load(bundle.file(SELFTEST))
    return ClassEmbeddings(vectors.class_names, vectors.text_embeds, bundle.vocabulary_digest)


@pytest.fixture(scope="module")
def runtime(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="openvino")


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def rewrite(bundle: Path, manifest: Manifest) -> Bundle:
    """The bundle with the manifest that its files now have."""
    write_manifest(bundle, replace(manifest, files=file_records(bundle)))
    return Bundle.open(bundle)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (333, 251), (100, 640), (720, 1280)])
def test_openvino_gives_the_runtimes_labels(
    openvino_fused: FusedSegmenter, runtime: Segmenter, words: ClassEmbeddings, size: tuple[int, int]
) -> None:
    image, refine = noise(*size), min(size) < 50
    expected = runtime.segment(image, words, background=True, refine=refine, window="whole")
    got = openvino_fused.segment(image, words, background=True, refine=refine)
    assert (got.label_map == expected.label_map).mean() >= 0.999


def test_openvino_breaks_ties_downwards(openvino_fused: FusedSegmenter, words: ClassEmbeddings) -> None:
    same = replace(words, vectors=np.repeat(words.vectors[:1], len(words.names), axis=0))
    assert not openvino_fused.segment(noise(50, 70), same).label_map.any()


def test_openvino_computes_it_in_float32_and_not_in_bf16(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVinoBackend, "refusal", lambda self, precision: None)
    bundle = Bundle.open(exported_bundle)
    engine = OpenVinoBackend().load(bundle, SEGMENTER, precision="int8", num_threads=1)
    assert engine.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    with pytest.raises(BackendError, match="would round the fused graph's pixels and scores too; use fp32"):
        OpenVinoBackend().load(bundle, SEGMENTER, precision="bf16", num_threads=1)


Resize = Callable[[NDArray[np.uint8], tuple[int, int]], NDArray[np.float32]]


@pytest.fixture(scope="module")
def graphs_resize() -> Resize:
    """The graph's resize by itself, to any size."""
    import onnxruntime

    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": to_onnx.OPSET}, name="resize"))
    image = builder.input("image", ir.DataType.UINT8, [1, "height", "width", 3])
    target = builder.input("target", ir.DataType.INT64, [2])
    source = builder.op.Shape(image, start=1, end=3)
    builder.add_output(fused_resize.resized(builder.op, image, source, target), "levels")
    model = ir.to_proto(ir.Model(builder.graph, ir_version=10)).SerializeToString()
    session = onnxruntime.InferenceSession(model)

    def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
        (levels,) = session.run(None, {"image": pixels[np.newaxis], "target": np.array(size)})
        return np.asarray(levels[0])

    return resized


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (37, 1000), (500, 333), (600, 2001), (1200, 1600), (448, 448)])
def test_levels_are_those_of_the_runtimes_resize(graphs_resize: Resize, size: tuple[int, int]) -> None:
    """In whole numbers: all but the rows or columns whose position is rounded twice."""
    target = resized_size(size, WindowSettings(448, 2048, (448, 448), (224, 224)))
    np.testing.assert_array_equal(graphs_resize(noise(*size), target), resize(noise(*size), target))


sides = st.integers(1, 100)


@given(st.tuples(sides, sides), st.tuples(sides, sides))
@settings(max_examples=300)
def test_levels_are_equal_at_every_border(
    graphs_resize: Resize, size: tuple[int, int], target: tuple[int, int]
) -> None:
    """Odd sizes, up and down, whose outer taps lie outside the image."""
    np.testing.assert_array_equal(graphs_resize(noise(*size), target), resize(noise(*size), target))


def test_the_window_is_that_of_the_runtime() -> None:
    import onnxruntime

    windows = WindowSettings(448, 2048, (448, 448), (224, 224))
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": to_onnx.OPSET}, name="window"))
    size = builder.input("size", ir.DataType.INT64, [2])
    builder.add_output(fused_resize.window_size(builder.op, size, windows), "window")
    session = onnxruntime.InferenceSession(ir.to_proto(ir.Model(builder.graph, ir_version=10)).SerializeToString())
    for sides in ((1, 1), (1, 700), (700, 1), (37, 1000), (448, 2048), (448, 2049), (2049, 448), (1200, 1601)):
        assert tuple(session.run(None, {"size": np.array(sides)})[0]) == resized_size(sides, windows)


def test_inputs_outputs_and_metadata(exported_bundle: Path) -> None:
    import onnxruntime

    bundle = Bundle.open(exported_bundle)
    session = onnxruntime.InferenceSession(bundle.graph(SEGMENTER))
    assert {value.name: f"{value.type} {value.shape}" for value in session.get_inputs()} == INPUTS
    assert {value.name: f"{value.type} {value.shape}" for value in session.get_outputs()} == OUTPUTS
    defaults = bundle.manifest.defaults
    assert session.get_modelmeta().custom_metadata_map == {
        "format_version": "2",
        "embed_dim": "192",
        "vocabulary_digest": bundle.vocabulary_digest,
        "prompt_set": DEFAULT_PROMPTS,
        "threshold": repr(defaults.threshold),
        "cleaning_weight": repr(defaults.cleaning_weight),
        "pamr_iterations": str(defaults.pamr.iterations),
    }


def test_only_standard_operators_and_no_trace_of_the_exporting_machine(exported_bundle: Path) -> None:
    model = ir.load(exported_bundle / SEGMENTER)
    assert dict(model.opset_imports) == {"": to_onnx.OPSET}
    assert {node.domain for node in model.graph.all_nodes()} == {""}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.all_nodes())
    names = [node.name for node in model.graph.all_nodes()]
    assert len(set(names)) == len(names)


def test_the_affinity_is_in_the_branch_that_refines(exported_bundle: Path) -> None:
    graph = ir.load(exported_bundle / SEGMENTER).graph
    (branch,) = (node for node in graph if node.op_type == "If")
    assert not [node for node in graph if node.op_type == "Exp"]
    neighbours = 8 * len(Bundle.open(exported_bundle).manifest.defaults.pamr.dilations)
    then, other = (branch.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
    assert len([node for node in then if node.op_type == "Exp"]) == neighbours
    assert [node.op_type for node in other] == ["Identity"]


def test_the_same_encoder_gives_the_same_bytes(bundle_copy: Path, exported_bundle: Path) -> None:
    write_fused(Bundle.open(bundle_copy), "fp32")
    assert (bundle_copy / SEGMENTER).read_bytes() == (exported_bundle / SEGMENTER).read_bytes()


def test_external_weights_are_shared_with_the_encoder(
    bundle_copy: Path, words: ClassEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "EXTERNAL_DATA_BYTES", 0)
    manifest = Bundle.open(bundle_copy).manifest
    to_onnx.write_graph(onnx.load(bundle_copy / IMAGE_ENCODER), bundle_copy / IMAGE_ENCODER)
    bundle = rewrite(bundle_copy, manifest)
    write_fused(bundle, "fp32")
    assert not (bundle_copy / "segmenter.onnx.data").exists()
    assert (bundle_copy / SEGMENTER).stat().st_size < 300_000
    bundle = rewrite(bundle_copy, bundle.manifest)
    assert FusedSegmenter.open(bundle_copy, backend="onnxruntime").segment(noise(30, 40), words).label_map.shape
    data = bundle_copy / "image_encoder.onnx.data"
    data.write_bytes(b"x" + data.read_bytes()[1:])
    with pytest.raises(ValueError, match="was changed or damaged"):
        Bundle.open(bundle_copy).graph(SEGMENTER)
    assert bundle.graph_digests("fp32", (SEGMENTER,))[1:] == (bundle.manifest.files[data.name].sha256,)


def test_verification_names_every_stage(exported_bundle: Path) -> None:
    stages = list(verify_fused(exported_bundle, "fp32"))
    assert [stage.stage for stage in stages] == [
        "upsampled",
        "upsampled labels",
        "refined",
        "refined labels",
        "labels of a window",
        "labels by thresholds of classes",
        "labels of a picture",
        "labels of a narrow picture",
    ]
    assert all(stage.passed for stage in stages)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_default_threshold_at_an_end_of_its_range_is_verified(bundle_copy: Path, threshold: float) -> None:
    manifest = Bundle.open(bundle_copy).manifest
    write_manifest(bundle_copy, replace(manifest, defaults=replace(manifest.defaults, threshold=threshold)))
    stages = list(verify_fused(bundle_copy, "fp32"))
    assert all(stage.passed for stage in stages)
    assert "labels by thresholds of classes" in [stage.stage for stage in stages]


def test_a_planted_fault_fails_the_verification(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pamr_graph, "STD_WEIGHT", 0.11)
    bundle = Bundle.open(bundle_copy)
    write_fused(bundle, "fp32")
    rewrite(bundle_copy, bundle.manifest)
    with pytest.raises(VerificationError, match=r"fused graph in fp32 failed: refined: .*; nothing was written"):
        require_fused_verified(bundle_copy, "fp32")


def test_a_model_whose_windows_are_not_its_short_side_cannot_be_fused(
    model_folder: Path, tmp_path: Path, exported_bundle: Path
) -> None:
    windows = Bundle.open(exported_bundle).manifest.windows
    check_fusible(windows)
    config = model_folder / "config.json"
    config.write_text(config.read_text().replace('"crop_size": 56', '"crop_size": 28'))
    with pytest.raises(OptionError, match=r"windows of \(28, 28\) and a short side of 56; export without --fused"):
        export_bundle(ExportSettings(backbone=str(model_folder), fused=True), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tensorrt_for_rtx_parses_and_builds_it(bundle_copy: Path) -> None:
    manifest = Bundle.open(bundle_copy).manifest
    # 8 neighbours in place of 48 build in seconds.
    few = replace(manifest, defaults=replace(manifest.defaults, pamr=PamrSettings((4,), 10)))
    write_fused(rewrite(bundle_copy, few), "fp32")
    rewrite(bundle_copy, few)
    folder = build_engine(bundle_copy, Target("tensorrt-rtx", "8.6"), "fp32", fused=True)
    graphs = read_engines(Bundle.open(bundle_copy), "tensorrt-rtx")[folder].graphs
    assert list(graphs) == [SEGMENTER, REFINED_SEGMENTER]
    plain, refined = graphs.values()
    assert refined.num_layers > plain.num_layers > 300
    for built in (plain, refined):
        assert list(built.profiles) == ["image", "text_embeds", "thresholds", "cleaning_weight"]
        assert [warning for warning in built.warnings if "trip limit" not in warning] == []


def test_the_whole_graph_is_what_tensorrt_parses(exported_bundle: Path) -> None:
    from t2d_runtime.backends.tensorrt_module import load_tensorrt

    trt = load_tensorrt("tensorrt-rtx")
    path = Bundle.open(exported_bundle).graph(SEGMENTER)
    network = trt.Builder(trt.Logger(trt.Logger.ERROR)).create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(with_iterations(path, 10, "fp32"), str(path))
    assert [network.get_input(i).name for i in range(network.num_inputs)] == [
        "image",
        "text_embeds",
        "thresholds",
        "cleaning_weight",
    ]
    assert {network.get_output(i).name for i in range(network.num_outputs)} == {"label_map", "scores"}
