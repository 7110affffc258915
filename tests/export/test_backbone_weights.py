"""Backbones from every published layout: the same model from each, or an error that names the keys."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import timm
import torch
from open_clip.transformer import QuickGELU
from timm.models.vision_transformer import checkpoint_filter_fn

from t2d_export.architectures.backbones import ARCHITECTURES, named_architecture
from t2d_export.model.loading import load_backbone
from t2d_export.model.towers import Backbone, ImageFeatures
from t2d_export.weights.random_weights import random_tensors
from t2d_runtime.errors import OptionError, WeightsError
from tests.export.weight_files import Tensors, dinov2_authors, saved, shallow, stored


def features_of(backbone: Backbone) -> ImageFeatures:
    pixels = torch.randn(1, 3, *backbone.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features: ImageFeatures = backbone(pixels)
    return features


def assert_same(got: ImageFeatures, expected: ImageFeatures) -> None:
    for name in expected._fields:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), atol=2e-5, rtol=0)


# --- DINOv2 ---


def swiglu(tensors: Tensors) -> Tensors:
    return {k.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): v for k, v in tensors.items()}


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitl14_reg", "dinov2_vitg14"])
def test_dinov2_from_its_authors_layout_and_from_timms(tmp_path: Path, name: str) -> None:
    architecture = shallow(name)
    timm_layout = stored(architecture, 70)
    authors = dinov2_authors(timm_layout)
    authors = swiglu(authors) if "vitg" in name else authors
    torch.save({f"module.{key}": value for key, value in authors.items()}, tmp_path / "authors.pth")
    ours = saved(timm_layout, tmp_path / "timm.safetensors")
    input_size = (56, 84)
    first, source = load_backbone(architecture, str(tmp_path / "authors.pth"), input_size)
    second, _ = load_backbone(architecture, ours, input_size)
    assert_same(features_of(first), features_of(second))
    assert source.name == "authors.pth"
    assert len(source.sha256 or "") == 64


def test_swiglu_is_that_of_the_released_code(tmp_path: Path) -> None:
    """`SwiGLUFFN`: w3(silu(x1) * x2) with x1, x2 the halves of w12(x)."""
    architecture = shallow("dinov2_vitg14")
    authors = swiglu(dinov2_authors(stored(architecture, 28)))
    backbone, _ = load_backbone(architecture, saved(authors, tmp_path / "g.safetensors"), (28, 28))
    tokens = torch.randn(2, 1536, generator=torch.Generator().manual_seed(0))
    prefix = "blocks.0.mlp"
    gate, value = (tokens @ authors[f"{prefix}.w12.weight"].T + authors[f"{prefix}.w12.bias"]).chunk(2, dim=-1)
    expected = (torch.nn.functional.silu(gate) * value) @ authors[f"{prefix}.w3.weight"].T
    torch.testing.assert_close(backbone.vit.blocks[0].mlp(tokens), expected + authors[f"{prefix}.w3.bias"])


def test_keys_of_another_model_are_named(tmp_path: Path) -> None:
    path = saved(dinov2_authors(stored(shallow("dinov2_vits14_reg"), 28)), tmp_path / "reg.safetensors")
    with pytest.raises(WeightsError, match=r"reg.safetensors, backbone dinov2_vits14: .*1 surplus keys \(reg_token\)"):
        load_backbone(shallow("dinov2_vits14"), path, (28, 28))
    with pytest.raises(WeightsError, match=r"14 missing keys \(blocks.1.attn.proj.bias, .*no surplus keys"):
        load_backbone(shallow("dinov2_vits14_reg", depth=2), path, (28, 28))
    with pytest.raises(WeightsError, match=r"\(384,\), expected \(768,\)|384.*expected.*768"):
        load_backbone(shallow("dinov2_vitb14_reg"), path, (28, 28))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    tensors = stored(shallow("dinov2_vits14"), 28)
    tensors["norm.bias"][3] = torch.nan
    with pytest.raises(WeightsError, match=r"norm.bias holds values that are not finite"):
        load_backbone(shallow("dinov2_vits14"), saved(tensors, tmp_path / "nan.safetensors"), (28, 28))


def test_an_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(OptionError, match=r"'dinov2_vitb15' is unknown: .*dinov2_vitb14_reg"):
        named_architecture("dinov2_vitb15")


# --- ablation backbones ---


@pytest.mark.parametrize("name", ["dino_vits16", "mae_vitb16"])
def test_dino_and_mae_equal_timms_own_model(tmp_path: Path, name: str) -> None:
    """Positions included: timm resamples them as the released code, which uses timm's models, does."""
    architecture = shallow(name, depth=2)
    weights = stored(architecture, 80)
    theirs = timm.create_model(architecture.timm_model, num_classes=0, img_size=(64, 96), depth=2).eval()
    theirs.load_state_dict(checkpoint_filter_fn(dict(weights), theirs))
    extra = {"decoder_pred.bias": torch.zeros(3), "mask_token": torch.zeros(1, 1, 3)} if "mae" in name else {}
    torch.save({"model": weights | extra}, tmp_path / "weights.pth")
    backbone, _ = load_backbone(architecture, str(tmp_path / "weights.pth"), (64, 96))
    assert_same_as_timm(backbone, theirs)


def assert_same_as_timm(backbone: Backbone, theirs: torch.nn.Module) -> None:
    """Tokens equal timm's, and the logits are those of the last block's own queries and keys."""
    pixels = torch.randn(2, 3, *backbone.input_size, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    theirs.blocks[-1].attn.qkv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        tokens = theirs.forward_features(pixels)
        got = backbone(pixels)
    prefix, heads = backbone.num_prefix_tokens, backbone.num_heads
    q, k, _ = seen[0].reshape(2, tokens.shape[1], 3, heads, -1).permute(2, 0, 3, 1, 4)
    attention = (q[:, :, 0, None] * 0.125 @ k.transpose(-2, -1))[:, :, 0, prefix:]  # 1 / sqrt(64)
    assert_same(got, ImageFeatures(tokens[:, prefix:], attention, tokens[:, 0]))


def test_clip_from_openais_layout_equals_open_clip(tmp_path: Path) -> None:
    """Against open_clip's own image tower; its positions are interpolated only by us."""
    architecture = shallow("clip_vitb16", depth=2)
    tower = open_clip.transformer.VisionTransformer(
        64, 16, 768, 2, 12, 4.0, output_dim=512, act_layer=QuickGELU, output_tokens=True
    ).eval()
    weights = random_tensors(tower.state_dict(), name="clip")
    tower.load_state_dict(weights)
    whole = {f"visual.{key}": value for key, value in weights.items()} | {"logit_scale": torch.ones(())}
    backbone, _ = load_backbone(architecture, saved(whole, tmp_path / "clip.safetensors"), (64, 64))
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        got = backbone(pixels)
        pooled, patches = tower(pixels)
    torch.testing.assert_close(got.patch_tokens, patches, atol=2e-5, rtol=0)
    torch.testing.assert_close(got.cls_token @ weights["proj"], pooled, atol=1e-4, rtol=0)
    assert backbone.mean == (0.4815, 0.4578, 0.4082)


def test_clip_from_timms_layout(tmp_path: Path) -> None:
    architecture = shallow("clip_vitl14")
    weights = stored(architecture, 56) | {"head.weight": torch.zeros(768, 1024)}
    backbone, _ = load_backbone(architecture, saved(weights, tmp_path / "clip.safetensors"), (56, 56))
    assert features_of(backbone).patch_tokens.shape == (1, 16, 1024)


def dinov3_authors(timm_layout: Tensors, periods: torch.Tensor) -> Tensors:
    """timm's layout with biases -> Meta's."""
    tensors: Tensors = {"rope_embed.periods": periods, "mask_token": torch.zeros(1, 768)}
    for key, value in timm_layout.items():
        key = key.replace("reg_token", "storage_tokens")
        key = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        if key.endswith("q_bias"):
            stem = key.removesuffix("q_bias")
            bias = [value, torch.full_like(value, 9.0), timm_layout[stem + "v_bias"]]
            tensors[stem + "qkv.bias"] = torch.cat(bias)
            tensors[stem + "qkv.bias_mask"] = torch.cat([torch.ones(768), torch.zeros(768), torch.ones(768)])
        elif not key.endswith("v_bias"):
            tensors[key] = value
    return tensors


def test_dinov3_tokens_are_rotated_and_its_logits_are_not(tmp_path: Path) -> None:
    architecture = shallow("dinov3_vitb16", depth=2)
    weights = stored(architecture, 64)
    periods = 100.0 ** (2 * torch.arange(16) / 32)
    authors = dinov3_authors(weights, periods)
    backbone, _ = load_backbone(architecture, saved(authors, tmp_path / "meta.safetensors"), (64, 96))
    theirs = timm.create_model(architecture.timm_model, num_classes=0, depth=2, global_pool="token").eval()
    theirs.load_state_dict(weights)
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    inputs: list[torch.Tensor] = []
    theirs.blocks[-1].attn.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.inference_mode():
        tokens = theirs.forward_features(pixels)
        got = backbone(pixels)
    weight, q_bias = weights["blocks.1.attn.qkv.weight"], weights["blocks.1.attn.q_bias"]
    q = (inputs[0][:, :1] @ weight[:768].T + q_bias).reshape(2, 1, 12, 64).transpose(1, 2)
    k = (inputs[0] @ weight[768:1536].T).reshape(2, -1, 12, 64).transpose(1, 2)
    attention = (q @ k.transpose(-2, -1) / 8)[:, :, 0, 5:]
    assert_same(got, ImageFeatures(tokens[:, 5:], attention, tokens[:, 0]))


def test_dinov3_computes_with_the_periods_of_its_file(tmp_path: Path) -> None:
    architecture = shallow("dinov3_vitb16")
    weights = stored(architecture, 64)
    periods = 100.0 ** (2 * torch.arange(16) / 32)
    paths = {
        name: saved(dinov3_authors(weights, values), tmp_path / f"{name}.safetensors")
        for name, values in {"exact": periods, "rounded": periods.bfloat16(), "other": periods * 2}.items()
    }
    exact, rounded, other = (features_of(load_backbone(architecture, path, (64, 64))[0]) for path in paths.values())
    without = {key: value for key, value in weights.items() if not key.endswith(("q_bias", "v_bias"))}
    zeros = {key: value * 0 if key.endswith(("q_bias", "v_bias")) else value for key, value in weights.items()}
    assert not torch.allclose(exact.patch_tokens, other.patch_tokens, atol=1e-2)
    assert not torch.allclose(exact.patch_tokens, rounded.patch_tokens, atol=1e-4)
    assert_same(
        features_of(load_backbone(architecture, saved(without, tmp_path / "a.safetensors"), (64, 64))[0]),
        features_of(load_backbone(architecture, saved(zeros, tmp_path / "b.safetensors"), (64, 64))[0]),
    )
    assert_same(
        features_of(load_backbone(architecture, saved(weights, tmp_path / "c.safetensors"), (64, 64))[0]), exact
    )


@pytest.mark.parametrize("periods", [torch.ones(8), torch.zeros(16), torch.full((16,), -1.0)])
def test_periods_of_another_model_are_refused(tmp_path: Path, periods: torch.Tensor) -> None:
    architecture = shallow("dinov3_vitb16")
    authors = dinov3_authors(stored(architecture, 64), periods)
    with pytest.raises(WeightsError, match=r"rope.periods are .*expected \(16,\) positive numbers"):
        load_backbone(architecture, saved(authors, tmp_path / "meta.safetensors"), (64, 64))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "vitg" not in name and "vitl" not in name])
def test_every_backbone_runs_with_random_weights(name: str) -> None:
    architecture = shallow(name)
    side = 2 * architecture.patch_size
    backbone, source = load_backbone(architecture, "random", (side, 2 * side))
    again, _ = load_backbone(architecture, "random", (side, 2 * side))
    features = features_of(backbone)
    assert features.patch_tokens.shape == (1, 8, backbone.embed_dim)
    assert features.cls_attention.shape == (1, backbone.num_heads, 8)
    assert 0.3 < float(features.patch_tokens.std()) < 3
    assert source.name == "random"
    assert all(torch.equal(a, b) for a, b in zip(features, features_of(again), strict=True))
