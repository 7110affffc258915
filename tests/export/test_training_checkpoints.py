"""Checkpoints as training leaves them: wrapped, beside copies and heads. The same bits as the plain file, or a question
that names what was found.
"""

from __future__ import annotations

import argparse
import logging
import pathlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from t2d_export.model.reference import Reference, load_reference
from t2d_runtime.errors import WeightsError
from tests.export.weight_files import Tensors, saved


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + key: value for key, value in tensors.items()}


def other(tensors: Tensors) -> Tensors:
    """The same model with other values."""
    return {key: value + 1 for key, value in tensors.items()}


def chunked(tensors: Tensors) -> Tensors:
    """Blocks in chunks of one, numbered through, as DINOv2's `BlockChunk` does."""
    names = {"blocks.0.": "blocks.0.0.", "blocks.1.": "blocks.1.1."}
    return {names.get(key[:9], key[:9]) + key[9:]: value for key, value in tensors.items()}


HEADS = {"dino_head.mlp.0.weight": torch.zeros(8, 48), "ibot_head.last_layer.weight_v": torch.zeros(8, 8)}
DECODER = {"decode_head.conv_seg.weight": torch.zeros(2, 48, 1, 1), "auxiliary_head.conv_seg.bias": torch.zeros(2)}
TRAINING = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}, "epoch": 3, "best": 0.5}

Layout = Callable[[Tensors], dict[str, Any]]

WRAPPED: dict[str, Layout] = {
    "compiled": lambda t: under("_orig_mod.", t),
    "data parallel": lambda t: under("module.", t),
    "compiled, then data parallel": lambda t: under("module._orig_mod.", t),
    "data parallel, then compiled": lambda t: under("_orig_mod.module.", t),
    "sharded data parallel": lambda t: {k.replace(".", "._fsdp_wrapped_module.", 1): v for k, v in t.items()},
    "model": lambda t: {"model": t, **TRAINING},
    "state_dict": lambda t: {"state_dict": under("module.", t), **TRAINING},
    "model_state_dict": lambda t: {
        "model_state_dict": t,
        "optimizer_state_dict": {"norm": {"exp_avg": t["norm.bias"]}},
    },
    "ema": lambda t: {"ema": t, "updates": torch.tensor(7)},
    "model_ema": lambda t: {"model_ema": t, **TRAINING},
    "state_dict_ema": lambda t: {"state_dict_ema": under("module.", t), **TRAINING},
    "averaged": lambda t: under("module.", t) | {"n_averaged": torch.tensor(3)},
    "lightning model": lambda t: {"state_dict": under("model.", t), "pytorch-lightning_version": "2.4.0", "loops": {}},
    "lightning net": lambda t: {"state_dict": under("net.", t) | {"criterion.weight": torch.ones(3)}, "callbacks": {}},
    "mmseg": lambda t: {"state_dict": under("backbone.", t) | DECODER, "meta": {"epoch": 1}},
    "a wrapper that nobody has heard of": lambda t: {"weights": {"of": under("my.vit.", t)}},
    "DINOv2 teacher": lambda t: {"teacher": under("backbone.", t) | HEADS},
    "DINOv2 training": lambda t: {"model": under("teacher.backbone.", t) | under("student.backbone.", other(t))},
    "DINO training": lambda t: {
        "student": under("module.backbone.", other(t)) | under("module.", HEADS),
        "teacher": under("backbone.", t) | HEADS,
        "dino_loss": {"center": torch.zeros(1, 8)},
        **TRAINING,
    },
    "DINOv3 training": lambda t: {
        "model": under("teacher.backbone.", t)
        | under("model_ema.backbone.", t)
        | under("student.backbone.", other(t))
        | under("gram_teacher.backbone.", other(t))
        | under("student.", HEADS)
    },
    "names with underscores": lambda t: (
        under("student_backbone.", other(t)) | under("teacher_backbone.", t) | under("teacher_head.", HEADS)
    ),
    "the same twice": lambda t: {"model": t, "ema": {key: value.clone() for key, value in t.items()}},
    "block chunks": chunked,
    "block chunks of a teacher": lambda t: {"teacher": under("backbone.", chunked(t))},
    "classifier": lambda t: t | {"head.weight": torch.zeros(5, 48), "classifier.bias": torch.zeros(5)},
}


@pytest.fixture
def backbone(model_folder: Path) -> Tensors:
    tensors: Tensors = load_file(model_folder / "backbone.safetensors")
    return tensors


def assert_same_bits(got: torch.nn.Module, expected: torch.nn.Module) -> None:
    ours, theirs = got.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def load(model_folder: Path, content: object, **options: str) -> Reference:
    path = model_folder.parent / "given.pth"
    torch.save(content, path)
    return load_reference(backbone=str(model_folder), backbone_weights=str(path), **options)


@pytest.mark.parametrize("layout", WRAPPED)
def test_a_backbone_in_its_wrappings_is_the_plain_files(model_folder: Path, backbone: Tensors, layout: str) -> None:
    plain = load_reference(backbone=str(model_folder))
    assert_same_bits(load(model_folder, WRAPPED[layout](backbone)).backbone, plain.backbone)


@pytest.mark.parametrize("layout", ["compiled", "model", "DINO training", "lightning net", "ema"])
@pytest.mark.parametrize("part", ["text", "projection"])
def test_so_are_a_text_tower_and_a_projection(model_folder: Path, part: str, layout: str) -> None:
    plain = load_reference(backbone=str(model_folder))
    tensors = load_file(model_folder / f"{part}.safetensors")
    content = WRAPPED[layout](tensors | {"norm.bias": torch.zeros(2)} if layout == "model_state_dict" else tensors)
    path = model_folder.parent / "given.pth"
    torch.save(content, path)
    option = {"text": {"text_weights": str(path)}, "projection": {"projection": str(path)}}[part]
    given = load_reference(backbone=str(model_folder), **option)
    assert_same_bits(given.text_tower, plain.text_tower)
    assert_same_bits(given.projection, plain.projection)


def test_heads_are_named_and_left_out(model_folder: Path, backbone: Tensors, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(model_folder, {"state_dict": under("backbone.", backbone) | DECODER})
    assert "given.pth, backbone from backbone: left out decode_head (1 tensor)" in caplog.text
    assert "auxiliary_head (1 tensor)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load(model_folder, {"teacher": under("backbone.", backbone) | HEADS, "student": under("backbone.", backbone)})
    assert "backbone from teacher.backbone" in caplog.text
    assert "dino_head (1 tensor), ibot_head (1 tensor), student (" in caplog.text


TWO_READINGS: dict[str, tuple[Layout, str]] = {
    "model and ema": (lambda t: {"model": t, "ema": other(t)}, "model, ema; choose one, as .*given.pth::ema"),
    "timm": (lambda t: {"state_dict": t, "state_dict_ema": other(t)}, "state_dict, state_dict_ema; .*::state_dict_ema"),
    "plain and wrapped": (lambda t: t | under("ema.", other(t)), r"\(the file itself\), ema; .*::ema"),
    "teacher and average": (
        lambda t: {"teacher": under("backbone.", t), "student": under("backbone.", t), "ema": other(t)},
        "teacher.backbone, ema; ",
    ),
}


@pytest.mark.parametrize("case", TWO_READINGS)
def test_where_two_are_possible_the_entries_are_listed(model_folder: Path, backbone: Tensors, case: str) -> None:
    layout, message = TWO_READINGS[case]
    with pytest.raises(WeightsError, match=f"holds the backbone 2 times, with different values: {message}"):
        load(model_folder, layout(backbone))


def test_an_entry_can_be_chosen(model_folder: Path, backbone: Tensors) -> None:
    plain = load_reference(backbone=str(model_folder))
    path = model_folder.parent / "given.pth"
    torch.save(
        {"model": under("module.", other(backbone)), "ema": backbone, "stranger": {"weight": torch.ones(3)}}, path
    )
    chosen = load_reference(backbone=str(model_folder), backbone_weights=f"{path}::ema")
    assert_same_bits(chosen.backbone, plain.backbone)
    with pytest.raises(WeightsError, match=r"has no entry 'emma'; entries that begin a backbone: ema, model"):
        load_reference(backbone=str(model_folder), backbone_weights=f"{path}::emma")


def test_a_file_whose_name_has_the_mark_is_that_file(model_folder: Path, backbone: Tensors) -> None:
    path = saved(backbone, model_folder.parent / "odd::name.safetensors")
    load_reference(backbone=str(model_folder), backbone_weights=path)


UNKNOWN: dict[str, tuple[Layout, str]] = {
    "in the entry": (lambda t: {"model": under("module.", t | {"gate.weight": torch.ones(2)})}, r"surplus keys \(gate"),
    "beside the entry": (
        lambda t: {"state_dict": under("backbone.", t) | {"gate.weight": torch.ones(2)}},
        r"beside backbone the file holds gate \(1 tensor\), which is no known head; .*given.pth::backbone",
    ),
    "adapters": (
        lambda t: t | {"blocks.0.attn.qkv.lora_A": torch.ones(2, 2)},
        r"surplus keys \(blocks.0.attn.qkv.lora",
    ),
    "twice": (lambda t: t | under("module.", t), "is there twice, wrapped and not"),
    "chunks that count anew": (
        lambda t: {
            k.replace("blocks.1.", "blocks.1.0.").replace("blocks.0.n", "blocks.0.0.n"): v for k, v in t.items()
        },
        r"given.pth, backbone small: every chunk of blocks counts from 0",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_unknown_is_refused_by_name(model_folder: Path, backbone: Tensors, case: str) -> None:
    layout, message = UNKNOWN[case]
    with pytest.raises(WeightsError, match=message):
        load(model_folder, layout(backbone))


def test_what_training_saves_beside_the_weights_is_set_aside_and_not_built(
    model_folder: Path, backbone: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command lines, NumPy numbers, paths, and records of mmengine, which is not there when they are read."""
    module = ModuleType("mmengine.logging.history_buffer")
    record = type("HistoryBuffer", (), {"__module__": module.__name__})
    module.HistoryBuffer = record  # type: ignore[attr-defined]
    content = {
        "model": backbone,
        "args": argparse.Namespace(lr=0.1, output=pathlib.Path("runs")),
        "metric": np.float64(0.5),
        "history": np.arange(3.0),
        "message_hub": {"log_scalars": {"loss": record()}},
    }
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging", module.__name__):
            patch.setitem(sys.modules, name, module)
        torch.save(content, model_folder.parent / "given.pth")
    built = load_reference(backbone=str(model_folder), backbone_weights=str(model_folder.parent / "given.pth"))
    assert_same_bits(built.backbone, load_reference(backbone=str(model_folder)).backbone)


def test_dictionaries_that_hold_one_another_end(model_folder: Path, backbone: Tensors) -> None:
    content: dict[str, Any] = {"model": backbone}
    content["itself"] = content
    for _ in range(60):
        content = {"a": content, "b": content}
    assert_same_bits(load(model_folder, content).backbone, load_reference(backbone=str(model_folder)).backbone)


FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


@pytest.mark.parametrize("dtype", [*FLOAT8, torch.bfloat16, torch.float16, torch.float64])
def test_other_floating_point_types_are_widened(model_folder: Path, backbone: Tensors, dtype: torch.dtype) -> None:
    narrow = backbone["norm.weight"].to(dtype)
    loaded = load(model_folder, backbone | {"norm.weight": narrow}).backbone.vit.norm.weight
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, narrow.to(torch.float32))


def test_equal_copies_of_eight_bits_are_one(model_folder: Path, backbone: Tensors) -> None:
    eight = backbone | {"norm.weight": backbone["norm.weight"].to(torch.float8_e4m3fn)}
    load(model_folder, {"model": eight, "ema": {key: value.clone() for key, value in eight.items()}})
    eight["cls_token"] = eight["cls_token"].to(torch.float8_e5m2)  # sums are taken behind the widening
    loaded = load(model_folder, eight).backbone.vit.cls_token
    assert torch.equal(loaded, eight["cls_token"].float() + backbone["pos_embed"][:, :1])


def test_a_projection_of_eight_bits_is_widened(model_folder: Path) -> None:
    tensors = load_file(model_folder / "projection.safetensors")
    path = model_folder.parent / "eight.pth"
    torch.save({key: value.to(torch.float8_e4m3fn) for key, value in tensors.items()}, path)
    loaded = load_reference(backbone=str(model_folder), projection=str(path)).projection.state_dict()
    assert all(torch.equal(loaded[key], value.to(torch.float8_e4m3fn).float()) for key, value in tensors.items())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(48, dtype=torch.int8), "norm.weight is int8"),
        (torch.ones(48, dtype=torch.complex64), "norm.weight is complex64"),
        (torch.ones(48).to_sparse(), "norm.weight is sparse"),
        (torch.ones(48, device="meta"), "norm.weight is on no device"),
        (torch.full((48,), torch.nan).to(torch.float8_e5m2), "not finite"),
        (torch.zeros(48, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "cannot be widened to float32"),
    ],
    ids=["int8", "complex", "sparse", "meta", "float8 nan", "float4"],
)
def test_values_that_are_no_weights_are_one_clear_error(
    model_folder: Path, backbone: Tensors, value: torch.Tensor, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        load(model_folder, backbone | {"norm.weight": value})


@pytest.mark.parametrize(
    "key", ["cls_token", "pos_embed", "register_tokens", "norm.weight", "blocks.0.attn.qkv.weight"]
)
@pytest.mark.parametrize("change", ["flat", "scalar", "empty", "deeper"])
def test_tensors_of_other_shapes_are_one_clear_error(
    model_folder: Path, backbone: Tensors, key: str, change: str
) -> None:
    value = backbone[key]
    shapes = {"flat": value.flatten(), "scalar": torch.ones(()), "empty": value[:0], "deeper": value[None]}
    if change == "flat" and value.ndim == 1:
        shapes["flat"] = value[1:]
    with pytest.raises(WeightsError, match=r"expected \(|square number of patches"):
        load(model_folder, backbone | {key: shapes[change]})
