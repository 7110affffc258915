"""The variants of the paper's tables, as whole models: what each does to text and to patch tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from t2d_export.model.projection import (
    BothProjection,
    LastBlockProjection,
    Projection,
    TextProjection,
    VisualProjection,
    state_dict_in_authors_layout,
)
from t2d_export.model.reference import Reference, load_reference
from t2d_export.weights.random_weights import random_tensors
from t2d_runtime.errors import OptionError

TEXT_DIM, EMBED_DIM = 24, 48
"""Of the small model in `conftest.py`."""

IDS = torch.tensor([[[49406, 320, 1929, 49407], [49406, 2368, 49407, 0]], [[49406, 7, 9, 49407], [49406, 5, 6, 49407]]])


def with_projection(folder: Path, projection: Projection, *, average_tokens: bool = False) -> Reference:
    """The small model with random weights in a projection of this kind, read from a file in the authors' layout."""
    projection.load_state_dict(random_tensors(projection.state_dict(), name="projection"))
    path = folder / "variant.safetensors"
    save_file(state_dict_in_authors_layout(projection), path)
    return load_reference(backbone=str(folder), projection=str(path), average_tokens=average_tokens)


def prompt_features(reference: Reference, classes: int = 2) -> Tensor:
    """Raw features (N,T,text width) at the end tokens."""
    return reference.text_tower(IDS[:classes].flatten(0, 1)).reshape(classes, 2, -1)


def patch_tokens(reference: Reference) -> tuple[Tensor, Tensor]:
    """What the backbone gives and what the reference makes of it."""
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    return reference.backbone(pixels).patch_tokens, reference.image_features(pixels).patch_tokens


def test_one_affine_map(model_folder: Path) -> None:
    reference = with_projection(model_folder, TextProjection(TEXT_DIM, EMBED_DIM, hidden_layers=0))
    weights = load_file(model_folder / "variant.safetensors")
    expected = prompt_features(reference).mean(dim=1) @ weights["linear_layer.weight"].T + weights["linear_layer.bias"]
    torch.testing.assert_close(reference.text_embeds(IDS), normalize(expected, dim=-1))
    own, seen = patch_tokens(reference)
    assert torch.equal(own, seen)


@pytest.mark.parametrize("hidden_dim", [None, 30])
def test_a_projection_on_the_visual_side(model_folder: Path, hidden_dim: int | None) -> None:
    reference = with_projection(model_folder, VisualProjection(TEXT_DIM, EMBED_DIM, hidden_dim))
    weights = load_file(model_folder / "variant.safetensors")
    features = prompt_features(reference).mean(dim=1)
    torch.testing.assert_close(reference.text_embeds(IDS), normalize(features, dim=-1))
    own, seen = patch_tokens(reference)
    expected = own @ weights["linear_layer.weight"].T + weights["linear_layer.bias"]
    if hidden_dim is not None:
        expected = expected.tanh() @ weights["linear_layer2.weight"].T + weights["linear_layer2.bias"]
    torch.testing.assert_close(seen, expected)
    image = torch.randint(0, 256, (3, 56, 56), dtype=torch.uint8)
    scores = reference.segment_window(image, reference.text_embeds(IDS), cleaning="official")
    assert scores.shape == (2, 56, 56)


def test_projections_on_both_sides(model_folder: Path) -> None:
    reference = with_projection(model_folder, BothProjection(TEXT_DIM, EMBED_DIM))
    weights = load_file(model_folder / "variant.safetensors")
    own, seen = patch_tokens(reference)
    hidden = (own @ weights["visual_linear.weight"].T + weights["visual_linear.bias"]).tanh()
    last = "visual_hidden_layers.0"
    torch.testing.assert_close(seen, hidden @ weights[f"{last}.weight"].T + weights[f"{last}.bias"])
    text_only = {key: value for key, value in weights.items() if not key.startswith("visual")}
    save_file(text_only, model_folder / "text_only.safetensors")
    same_text = load_reference(backbone=str(model_folder), projection=str(model_folder / "text_only.safetensors"))
    torch.testing.assert_close(reference.text_embeds(IDS), same_text.text_embeds(IDS))


def test_averaged_text_tokens(model_folder: Path) -> None:
    """The words of the first class's prompts are tokens 1 to 2 and token 1; start and end are left out."""
    reference = with_projection(model_folder, TextProjection(TEXT_DIM, EMBED_DIM), average_tokens=True)
    tokens = reference.text_tower.token_features(IDS[0])
    mean = torch.stack([tokens[0, 1:3].mean(dim=0), tokens[1, 1]]).mean(dim=0)
    expected = normalize(reference.projection.project_text(mean), dim=-1)
    torch.testing.assert_close(reference.text_embeds(IDS)[0], expected)
    torch.testing.assert_close(reference.text_tower.token_features(IDS[0])[0, 3], reference.text_tower(IDS[0])[0])


def test_clips_last_block_trained(model_folder: Path) -> None:
    """With CLIP's own block in the file a single prompt's embedding is that of the published variant."""
    published = with_projection(model_folder, TextProjection(TEXT_DIM, EMBED_DIM))
    text, mapping = load_file(model_folder / "text.safetensors"), published.projection.state_dict()
    prefix = "transformer.resblocks.1."
    tensors = {f"last_resblock.{k.removeprefix(prefix)}": v for k, v in text.items() if k.startswith(prefix)}
    tensors |= {"last_ln.weight": text["ln_final.weight"], "last_ln.bias": text["ln_final.bias"]}
    tensors["clip_text_proj"] = text["text_projection"]
    tensors |= {f"projection_layer.{key}": value for key, value in mapping.items()}
    path = model_folder / "last_block.safetensors"
    save_file(tensors, path)
    trained = load_reference(backbone=str(model_folder), projection=str(path))
    assert isinstance(trained.projection, LastBlockProjection)
    with pytest.raises(
        OptionError, match=r"last_block.safetensors has CLIP's last block .* leave --average-tokens out"
    ):
        load_reference(backbone=str(model_folder), projection=str(path), average_tokens=True)
    first = IDS[:, :1]
    torch.testing.assert_close(trained.text_embeds(first), published.text_embeds(first))
    late = published.projection.project_text(prompt_features(published)).mean(dim=1)
    torch.testing.assert_close(trained.text_embeds(IDS), normalize(late, dim=-1))
