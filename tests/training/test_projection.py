"""Projection files: every variant of the paper is recognised, computed and written back; anything else is refused."""

from __future__ import annotations

import pytest
import torch

from t2d_export.model.projection import (
    BothProjection,
    LastBlockProjection,
    Projection,
    TextProjection,
    VisualProjection,
    projection_from_state_dict,
    state_dict_in_authors_layout,
)
from t2d_runtime.errors import WeightsError

TEXT, EMBED = 6, 10


def variants() -> dict[str, Projection]:
    torch.manual_seed(0)
    last_block = LastBlockProjection(TEXT, EMBED, width=8, heads=2)
    torch.nn.init.normal_(last_block.clip_text_proj)
    return {
        "text": TextProjection(TEXT, EMBED),
        "affine": TextProjection(TEXT, EMBED, hidden_layers=0),
        "three layers": TextProjection(TEXT, EMBED, hidden_layers=2),
        "visual": VisualProjection(TEXT, EMBED, hidden_dim=7),
        "visual, hidden as wide as the text": VisualProjection(TEXT, EMBED, hidden_dim=TEXT),
        "visual, affine": VisualProjection(TEXT, EMBED),
        "both": BothProjection(TEXT, EMBED),
        "last block": last_block,
    }


AUTHORS_KEYS = {
    "text": {"linear_layer", "hidden_layers.0"},
    "affine": {"linear_layer"},
    "visual": {"linear_layer", "linear_layer2"},
    "visual, affine": {"linear_layer"},
    "both": {"linear_layer", "hidden_layers.0", "visual_linear", "visual_hidden_layers.0"},
}


@pytest.mark.parametrize("name", variants())
def test_written_and_read_back(name):
    projection = variants()[name]
    state = state_dict_in_authors_layout(projection)
    again = projection_from_state_dict(state, text_dim=TEXT, embed_dim=EMBED, text_heads=2)
    assert type(again) is type(projection)
    text, visual = torch.randn(3, TEXT), torch.randn(3, 4, EMBED)
    assert torch.equal(again.project_text(text), projection.project_text(text))
    assert torch.equal(again.project_visual(visual), projection.project_visual(visual))
    assert again.project_text(text).shape[-1] == again.project_visual(visual).shape[-1] == again.shared_dim
    if isinstance(again, LastBlockProjection):
        hidden, end = torch.randn(3, 5, 8), torch.tensor([4, 2, 3])
        assert torch.equal(again.end_feature(hidden, end), projection.end_feature(hidden, end))
    next(again.parameters()).data.zero_()
    assert not torch.equal(state[next(iter(state))], torch.zeros(1)), "the given tensors are copied"


@pytest.mark.parametrize("name", AUTHORS_KEYS)
def test_keys_are_the_authors(name):
    state = state_dict_in_authors_layout(variants()[name])
    assert {key.rpartition(".")[0] for key in state} == AUTHORS_KEYS[name]
    assert all(value.dtype == torch.float32 for value in state.values())


def test_what_the_variants_compute():
    made = variants()
    text, visual = torch.randn(2, TEXT), torch.randn(2, EMBED)
    state = made["text"].state_dict()
    inner = torch.tanh(text @ state["linear_layer.weight"].T + state["linear_layer.bias"])
    expected = inner @ state["hidden_layers.0.weight"].T + state["hidden_layers.0.bias"]
    torch.testing.assert_close(made["text"].project_text(text), expected)
    state = made["visual"].state_dict()
    inner = torch.tanh(visual @ state["linear_layer.weight"].T + state["linear_layer.bias"])
    expected = inner @ state["linear_layer2.weight"].T + state["linear_layer2.bias"]
    torch.testing.assert_close(made["visual"].project_visual(visual), expected)
    assert torch.equal(made["visual"].project_text(text), text)
    assert torch.equal(made["text"].project_visual(visual), visual)
    state = made["affine"].state_dict()
    expected = text @ state["linear_layer.weight"].T + state["linear_layer.bias"]
    torch.testing.assert_close(made["affine"].project_text(text), expected)


def test_last_block_is_causal():
    """What follows the end token cannot change the feature."""
    projection = variants()["last block"]
    hidden, end = torch.randn(1, 6, 8), torch.tensor([3])
    changed = hidden.clone()
    changed[:, 4:] = torch.randn(1, 2, 8)
    torch.testing.assert_close(projection.end_feature(hidden, end), projection.end_feature(changed, end))
    changed[:, 1] = torch.randn(8)
    assert not torch.allclose(projection.end_feature(hidden, end), projection.end_feature(changed, end))


def test_older_files_name_the_second_map_otherwise():
    projection = variants()["text"]
    state = {key.replace("hidden_layers.0", "linear_layer2"): v for key, v in projection.state_dict().items()}
    again = projection_from_state_dict(state, text_dim=TEXT, embed_dim=EMBED)
    text = torch.randn(3, TEXT)
    assert torch.equal(again.project_text(text), projection.project_text(text))


def change(state: dict[str, torch.Tensor], **changes: object) -> dict[str, object]:
    return {**state, **{key.replace("__", "."): value for key, value in changes.items()}}


def test_unusable_files():
    state = variants()["text"].state_dict()
    without_bias = {key: value for key, value in state.items() if key != "hidden_layers.0.bias"}
    broken = state["linear_layer.bias"].clone()
    broken[0] = torch.nan
    wider = TextProjection(TEXT, EMBED + 1).state_dict()
    block = {key: v for key, v in variants()["last block"].state_dict().items() if not key.startswith("last_ln")}
    cases = [
        (without_bias, r"missing keys \['hidden_layers.0.bias'\], surplus keys \[\]"),
        (change(state, attn_weights=torch.ones(3)), r"surplus keys \['attn_weights'\]"),
        ({}, r"missing keys \['linear_layer.bias', 'linear_layer.weight'\]"),
        (wider, r"linear_layer.weight is \(11, 6\), expected \(10, 6\).*another backbone"),
        (change(state, linear_layer__bias=broken), "'linear_layer.bias' holds values that are not finite"),
        (change(state, epoch=3), "expected a tensor of floats under 'epoch', got int"),
        (change(state, step=torch.tensor(1)), "under 'step', got one of torch.int64"),
        (block, "expected last_ln.weight"),
    ]
    for given, message in cases:
        with pytest.raises(WeightsError, match=message):
            projection_from_state_dict(given, text_dim=TEXT, embed_dim=EMBED)
