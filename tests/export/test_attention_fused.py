"""Attention in engines of TensorRT for RTX: one kernel where that is supported, and the same numbers before it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from t2d_export.bundle.emulation import in_float32
from t2d_export.engines.attention import fuse_attention
from t2d_export.engines.layer_report import LayerReport, read_report
from t2d_export.engines.to_engine import Target, build_engine
from t2d_runtime.bundle.engines import read_engine, read_engines
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from t2d_runtime.proof.parity import GATES


def tokens_of(bundle: Bundle) -> int:
    """Tokens of the image encoder: patches, CLS and registers."""
    graph = ir.load(bundle.graph(IMAGE_ENCODER, "fp32")).graph
    return next(int(node.outputs[0].shape[-1]) for node in graph if node.op_type == "Softmax")  # type: ignore[index,arg-type]


def blocks_of(bundle: Bundle, name: str) -> int:
    return sum(node.op_type == "Softmax" for node in ir.load(bundle.graph(name, "fp32")).graph)


def reports(folder: Path, precision: str, max_batch: int | None = None) -> dict[str, LayerReport]:
    built = build_engine(folder, Target("tensorrt-rtx", "8.9", max_batch), precision)
    manifest = read_engines(Bundle.open(folder), "tensorrt-rtx")[built]
    return {name: read_report(bytes(read_engine(built, manifest, name))) for name in manifest.graphs}


@pytest.mark.parametrize(("precision", "max_batch"), [("fp16", None), ("bf16", None), ("int8", None), ("fp16", 64)])
def test_no_tokens_by_tokens_tensor_leaves_a_kernel(bundle_copy: Path, precision: str, max_batch: int | None) -> None:
    bundle, found = Bundle.open(bundle_copy), reports(bundle_copy, precision, max_batch)
    assert len(found[IMAGE_ENCODER].tensors) > 50
    assert found[IMAGE_ENCODER].squares(tokens_of(bundle)) == 0
    assert {name: report.fused_attentions for name, report in found.items()} == {
        name: blocks_of(bundle, name) for name in (IMAGE_ENCODER, TEXT_ENCODER)
    }


def test_in_float32_attention_is_not_one_kernel(bundle_copy: Path) -> None:
    bundle, found = Bundle.open(bundle_copy), reports(bundle_copy, "fp32")
    assert found[IMAGE_ENCODER].fused_attentions == 0
    assert found[IMAGE_ENCODER].squares(tokens_of(bundle)) >= blocks_of(bundle, IMAGE_ENCODER)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_the_graph_computes_what_it_did(exported_bundle: Path, tmp_path: Path, precision: str) -> None:
    """Emulated where nothing is fused, so that logits are rounded too: well within the precision's gate."""
    bundle = Bundle.open(exported_bundle)
    size = bundle.manifest.model.input_size
    values = np.random.default_rng(0).normal(0, 1, (2, 3, *size)).astype(np.float32)
    stored = bundle.graph(IMAGE_ENCODER, precision)
    model = ir.load(stored)
    assert fuse_attention(model.graph, precision) == blocks_of(bundle, IMAGE_ENCODER)
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(ir.to_proto(model).SerializeToString())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    expected, got = (
        onnxruntime.InferenceSession(
            in_float32(path).SerializeToString(), options, providers=["CPUExecutionProvider"]
        ).run(None, {"pixel_values": values})
        for path in (stored, changed)
    )
    errors = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in zip(expected, got, strict=True)]
    assert 0 < max(errors) < 0.5 * GATES[precision].relative_frobenius


def test_float32_stays_as_it_is(exported_bundle: Path) -> None:
    path = Bundle.open(exported_bundle).graph(IMAGE_ENCODER, "fp32")
    model = ir.load(path)
    count = len(model.graph)
    assert fuse_attention(model.graph, "fp32") == 0
    assert len(model.graph) == count
