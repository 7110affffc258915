"""The graphs of fp16, bf16 and int8: what is in which type, and the gates that decide whether they are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from t2d_export import export
from t2d_export.bundle.bundle_writer import file_records
from t2d_export.bundle.emulation import EMULATION, Emulation, in_float32
from t2d_export.bundle.verify import matrix_row
from t2d_export.cli import main
from t2d_export.encoders.calibration import (
    CALIBRATION_WORDS,
    calibration_images,
    calibration_prompts,
    calibration_windows,
)
from t2d_export.encoders.precision import linear_layers
from t2d_export.encoders.token_table import quantise_rows
from t2d_runtime.backends.base import Arrays
from t2d_runtime.backends.names import BACKENDS
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeEngine
from t2d_runtime.backends.openvino import OpenVinoBackend
from t2d_runtime.bundle.files import IMAGE_ENCODER, SEGMENTER, TEXT_ENCODER, TOKENIZER, Bundle
from t2d_runtime.bundle.manifest import Verdict
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import OptionError
from t2d_runtime.proof import parity
from t2d_runtime.proof.parity import GATES, PRECISIONS, PrecisionGates

GRAPHS = (IMAGE_ENCODER, TEXT_ENCODER)
HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def graph(bundle: Path, name: str, precision: str) -> onnx.ModelProto:
    """A graph with the types of its values."""
    return onnx.shape_inference.infer_shapes(onnx.load(Bundle.open(bundle).graph(name, precision)))


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_keeps_the_boundary_and_the_opset(exported_bundle: Path, name: str, precision: str) -> None:
    model, full = graph(exported_bundle, name, precision), graph(exported_bundle, name, "fp32")
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.graph.input == full.graph.input
    for got, expected in zip(model.graph.output, full.graph.output, strict=True):
        assert (got.name, got.type) == (expected.name, expected.type)
        assert got.type.tensor_type.elem_type == TensorProto.FLOAT
    norms = [sum(node.op_type == "LayerNormalization" for node in m.graph.node) for m in (model, full)]
    assert norms[0] == norms[1] > 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_output_holds_tokens_by_tokens(exported_bundle: Path, precision: str) -> None:
    model = graph(exported_bundle, IMAGE_ENCODER, precision)
    rows, columns = Bundle.open(exported_bundle).manifest.model.grid_size
    for output in model.graph.output:
        sides = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
        assert sum(side >= rows * columns for side in sides) <= 1, f"{output.name}: {sides}"


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("precision", HALF)
def test_linear_layers_are_half_and_the_rest_is_float32(exported_bundle: Path, name: str, precision: str) -> None:
    model = graph(exported_bundle, name, precision)
    types = value_types(model)
    linear = [node for node in model.graph.node if node.name in linear_layers(model)]
    full = graph(exported_bundle, name, "fp32")
    assert len(linear) == len(linear_layers(full)) > 4
    for node in linear:
        assert {types[value] for value in (*node.input, *node.output)} == {HALF[precision]}
    for node in model.graph.node:
        if node.op_type in ("LayerNormalization", "Softmax", "Conv", "ReduceL2", "Tanh"):
            assert {types[value] for value in (node.input[0], *node.output)} == {TensorProto.FLOAT}, node.name
    producers = {value: node for node in model.graph.node for value in node.output}
    for node in model.graph.node:
        if node.op_type == "Softmax":  # attention logits: a float32 product, with a mask added in the text encoder
            logits = producers[node.input[0]]
            product = logits if logits.op_type == "MatMul" else producers[logits.input[0]]
            assert product.op_type == "MatMul"
            assert {types[value] for value in product.input} == {TensorProto.FLOAT}


@pytest.mark.parametrize("name", GRAPHS)
def test_int8_is_symmetric_per_channel_and_of_the_linear_layers_alone(exported_bundle: Path, name: str) -> None:
    model, full = graph(exported_bundle, name, "int8"), graph(exported_bundle, name, "fp32")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantisers = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in quantisers:
        zero_point = stored[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
    dequantised = {n.output[0]: n for n in quantisers if n.op_type == "DequantizeLinear"}
    products = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in dequantised]
    assert sorted(n.name for n in products) == sorted(linear_layers(full))
    for node in products:
        weight = dequantised[node.input[1]]
        assert stored[weight.input[0]].dtype == np.int8
        assert stored[weight.input[1]].shape == (stored[weight.input[0]].shape[1],)
        assert node.input[0] in dequantised
    quantised = {n.input[0] for n in quantisers if n.op_type == "QuantizeLinear"}
    assert quantised.isdisjoint(n.output[0] for n in products)


def test_int8_stores_the_token_table_row_by_row(exported_bundle: Path) -> None:
    model, full = graph(exported_bundle, TEXT_ENCODER, "int8"), graph(exported_bundle, TEXT_ENCODER, "fp32")
    stored, expected = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in m.graph.initializer} for m in (model, full)
    )
    (name,) = {n.input[0] for n in full.graph.node if n.op_type == "Gather"} & expected.keys()
    table = expected[name]
    tables = {
        n.input[0]: stored[n.input[0]] for n in model.graph.node if n.op_type == "Gather" and n.input[0] in stored
    }
    rows, scales = sorted(tables.values(), key=lambda array: -array.shape[1])
    assert (rows.dtype, rows.shape) == (np.int8, table.shape)
    assert (scales.dtype, scales.shape) == (np.float32, (len(table), 1))
    seldom = ~table.any(axis=1)  # tokens that the small model never met
    assert (np.abs(rows).max(axis=1) == np.where(seldom, 0, 127)).all(), "each row fills its range"
    assert (np.abs(rows * scales - table) <= 0.501 * scales * ~seldom[:, None]).all()
    assert name not in stored
    assert not any(array.dtype == np.float32 and array.size >= table.size for array in stored.values())


def test_rows_of_zeros_and_of_one_value() -> None:
    rows, scales = quantise_rows(np.array([[0, 0, 0], [0, -3, 1.5], [1e-30, 0, 0]], np.float32))
    np.testing.assert_array_equal(rows, [[0, 0, 0], [0, -127, 64], [127, 0, 0]])
    np.testing.assert_allclose(scales, [[1], [3 / 127], [1e-30 / 127]], rtol=1e-6)


def test_lower_precisions_are_smaller(exported_bundle: Path) -> None:
    files = Bundle.open(exported_bundle).manifest.files
    words = files[TEXT_ENCODER].size_bytes
    assert files[f"precisions/fp16/{TEXT_ENCODER}"].size_bytes < 0.6 * words
    assert files[f"precisions/int8/{TEXT_ENCODER}"].size_bytes < 0.3 * words
    full = files[IMAGE_ENCODER].size_bytes
    assert files[f"precisions/fp16/{IMAGE_ENCODER}"].size_bytes < 0.6 * full
    assert files[f"precisions/int8/{IMAGE_ENCODER}"].size_bytes < 0.4 * full


def test_the_matrix_says_what_runs_where_and_why_not(exported_bundle: Path) -> None:
    matrix = Bundle.open(exported_bundle).manifest.precisions
    assert list(matrix) == list(PRECISIONS)
    assert all(matrix[precision]["onnxruntime"].status == "passed" for precision in ("fp32", "fp16", "int8"))
    assert matrix["bf16"]["onnxruntime"].status == "unsupported"
    assert "no bfloat16 kernels" in matrix["bf16"]["onnxruntime"].reason
    assert "of the labels agree" in matrix["int8"]["onnxruntime"].reason
    assert "t2d-export engine" in matrix["fp16"]["tensorrt-rtx"].reason
    for precision in GATES:
        assert matrix[precision][EMULATION].status == "passed"
        assert "of the labels agree" in matrix[precision][EMULATION].reason
        assert "class embeddings by" in matrix[precision][EMULATION].reason


@pytest.mark.parametrize("precision", GATES)
def test_the_matrix_tests_what_this_processor_runs(exported_bundle: Path, precision: str) -> None:
    row = matrix_row(exported_bundle, precision, Verdict("passed", "as stored"))
    assert row.keys() == {EMULATION, *BACKENDS}
    assert row[EMULATION].reason == "as stored"
    runs = OpenVinoBackend().refusal(precision) is None
    assert row["openvino"].status == ("passed" if runs else "untested")
    runs = OnnxRuntimeBackend("onnxruntime").refusal(precision) is None
    assert row["onnxruntime"].status == ("passed" if runs else "unsupported")


def figures_of(verdict: Verdict) -> list[float]:
    """Of the patch tokens, the class embeddings and the labels."""
    return [float(figure) for figure in re.findall(r"[\d.]+(?:e-\d+)?(?= of|%)", verdict.reason)]


@pytest.mark.parametrize("precision", GATES)
def test_a_precision_is_written_whatever_this_processor_runs(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """On a processor whose engines run float32 alone."""
    before = Bundle.open(bundle_copy).manifest
    for backend in (OnnxRuntimeBackend, OpenVinoBackend):
        monkeypatch.setattr(backend, "refusal", lambda self, asked: None if asked == "fp32" else "no such units")
    row = export._judged(bundle_copy, before, precision)
    judged, exported = row[EMULATION], before.precisions[precision][EMULATION]
    assert judged.status == "passed"
    # Float32 sums in another order, where another processor exported the bundle.
    assert figures_of(judged) == pytest.approx(figures_of(exported), rel=0.03)
    assert row["openvino"].status == "untested"
    assert row["onnxruntime"].status == ("unsupported" if precision == "bf16" else "untested")
    assert "run 't2d selftest' there" in row["openvino"].reason
    files = [name for name in file_records(bundle_copy) if name.startswith(f"precisions/{precision}/")]
    assert [name.rpartition("/")[2] for name in files] == sorted([*GRAPHS, SEGMENTER])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_emulation_rounds_operands_and_results_to_the_half_type(tmp_path: Path, dtype: torch.dtype) -> None:
    kind = {torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16}[dtype]
    rng = np.random.default_rng(0)
    values, weight = (torch.from_numpy(rng.normal(size=size).astype(np.float32)) for size in ((5, 64), (64, 7)))
    rounded = helper.make_tensor("weight", kind, (64, 7), weight.flatten().tolist())
    shift = helper.make_tensor("shift", kind, (), [0.3])
    nodes = [
        helper.make_node("Cast", ["values"], ["half"], to=kind),
        helper.make_node("MatMul", ["half", "weight"], ["product"]),
        helper.make_node("Constant", [], ["shift"], value=shift),
        helper.make_node("Add", ["product", "shift"], ["sum"]),
        helper.make_node("Transpose", ["sum"], ["turned"], perm=[1, 0]),
        helper.make_node("Cast", ["turned"], ["result"], to=TensorProto.FLOAT),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size)]
        for name, size in (("values", (5, 64)), ("result", (7, 5)))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "half", *ends, [rounded]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, tmp_path / "half.onnx")
    emulated = in_float32(tmp_path / "half.onnx")
    half_values = [
        name for name, held in value_types(onnx.shape_inference.infer_shapes(emulated)).items() if held == kind
    ]
    assert half_values == ["half/rounded", "product/rounded", "sum/rounded"]
    onnx.save(emulated, tmp_path / "emulated.onnx")
    (result,) = (
        OnnxRuntimeBackend("onnxruntime")
        .open_session(tmp_path / "emulated.onnx", 1)
        .run({"values": values.numpy()})
        .values()
    )

    def half(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(dtype).float()

    product = half(values).double() @ half(weight).double()
    expected = half(half(product.float()) + half(torch.tensor(0.3)))
    # A sum in another order may fall on the other side of a rounding.
    assert np.mean(result == expected.numpy().T) > 0.9
    np.testing.assert_allclose(result, expected.numpy().T, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
    assert (result != (values @ weight + 0.3).numpy().T).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_precision_that_misses_its_gates_is_removed_and_the_report_says_by_how_much(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    gates = PrecisionGates(relative_frobenius=1e-7, label_agreement=1.0)
    monkeypatch.setattr(parity, "GATES", {**GATES, precision: gates})
    row = export._judged(bundle_copy, Bundle.open(bundle_copy).manifest, precision)
    assert not (bundle_copy / "precisions" / precision).exists()
    assert row["all"].status == "failed"
    assert "not written: " in row["all"].reason
    assert "text_embeds: relative norm of the difference" in row["all"].reason
    assert row["all"].reason.endswith("tolerance 1e-07")


@pytest.mark.parametrize(
    ("overflowing", "said"),
    [("text_embeds", "text_embeds have lengths from inf to inf, expected 1"), ("patch_tokens", "not finite")],
)
def test_a_precision_that_overflows_is_removed_too(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, overflowing: str, said: str
) -> None:
    real = OnnxRuntimeEngine.run

    def overflow(self: OnnxRuntimeEngine, inputs: Arrays) -> dict[str, NDArray[Any]]:
        return {
            name: values * np.float32(np.inf) if name == overflowing else values
            for name, values in real(self, inputs).items()
        }

    monkeypatch.setattr(OnnxRuntimeEngine, "run", overflow)
    row = export._judged(bundle_copy, Bundle.open(bundle_copy).manifest, "fp16")
    assert not (bundle_copy / "precisions" / "fp16").exists()
    assert row["all"].status == "failed"
    assert said in row["all"].reason


def test_calibration_takes_every_window_of_every_image(exported_bundle: Path, tmp_path: Path) -> None:
    manifest = Bundle.open(exported_bundle).manifest
    side = manifest.windows.short_side
    for number, width in enumerate((side, 2 * side)):
        Image.new("RGB", (width, side)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    windows = list(calibration_windows(calibration_images(tmp_path), manifest))
    across = 1 + -(-side // manifest.windows.stride[1])
    assert len(windows) == 1 + across
    assert {window.shape for window in windows} == {(1, 3, *manifest.model.input_size)}


def test_int8_is_as_close_for_words_that_the_self_test_lacks(exported_bundle: Path) -> None:
    bundle = Bundle.open(exported_bundle)
    full, quantised = (Encoders(bundle, Emulation(), precision=precision) for precision in ("fp32", "int8"))
    words = ("tree", "boat", "balloon", "umbrella", "flower", "cloud", "road", "tent", "fence", "a rock in the sand")
    expected, got = (encoders.encode_classes(words).vectors for encoders in (full, quantised))
    assert np.linalg.norm(got - expected) < 0.1 * GATES["int8"].relative_frobenius * np.linalg.norm(expected)


def test_prompts_for_the_calibration_are_of_many_words(exported_bundle: Path) -> None:
    bundle = Bundle.open(exported_bundle)
    ids = calibration_prompts(("sky", "dog"), bundle.manifest, bundle.file(TOKENIZER))
    assert ids.shape[:2] == (1 + len(CALIBRATION_WORDS), 7), "dog is among them"
    assert ids.shape[2] < 20


def test_a_calibration_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="holds no image; expected a folder with some tens of photographs"):
        calibration_images(tmp_path)


def test_unknown_precisions_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bundle", "--backbone", "dinov2_vits14", "--output", str(tmp_path / "b"), "--precision"]
    for precisions in ("fp32,fp8", "fp16"):
        assert main([*command, precisions]) == 2
        assert "expected fp32 and others of ['fp32', 'fp16', 'bf16', 'int8']" in capsys.readouterr().err
