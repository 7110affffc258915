"""Published layouts, hubs and random weights: the same model from each, or an error that names the keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import timm
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from t2d_export import published
from t2d_export.backbones import ARCHITECTURES, Architecture, named_architecture
from t2d_export.loading import load_backbone, load_projection, load_text_tower
from t2d_export.projection import TextProjection
from t2d_export.random_weights import random_tensors
from t2d_export.reference import load_reference
from t2d_export.towers import Backbone, ImageFeatures
from t2d_runtime.errors import OptionError, WeightsError, WeightsNotFoundError

Tensors = dict[str, torch.Tensor]


def shallow(name: str, depth: int = 1) -> Architecture:
    """A published backbone with fewer blocks."""
    return replace(ARCHITECTURES[name], timm_arguments={"depth": depth})


def stored(architecture: Architecture, side: int) -> Tensors:
    """Random weights in timm's layout, with positions for a square of `side` pixels."""
    return random_tensors(architecture.build((side, side)).state_dict(), name=architecture.name)


def saved(tensors: Tensors, path: Path) -> str:
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path)
    return str(path)


def features_of(backbone: Backbone) -> ImageFeatures:
    pixels = torch.randn(1, 3, *backbone.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features: ImageFeatures = backbone(pixels)
    return features


def assert_same(got: ImageFeatures, expected: ImageFeatures) -> None:
    for name in expected._fields:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), atol=2e-5, rtol=0)


# --- DINOv2 ---


def dinov2_authors(timm_layout: Tensors) -> Tensors:
    """timm's layout -> the released one, whose positions are (1, 1+P, D) and whose SwiGLU is w12, w3."""
    tensors = dict(timm_layout)
    if "reg_token" in tensors:
        tensors["register_tokens"] = tensors.pop("reg_token")
        # Not one value for all channels: LayerNorm would take that off again.
        cls_position = torch.linspace(-1, 1, tensors["cls_token"].shape[-1])[None, None]
        tensors["cls_token"] = tensors["cls_token"] - cls_position
        tensors["pos_embed"] = torch.cat([cls_position, tensors["pos_embed"]], dim=1)
    tensors["mask_token"] = torch.zeros(1, tensors["cls_token"].shape[-1])
    return tensors


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
        for name, values in {"rounded": periods.bfloat16().float(), "other": periods * 2}.items()
    }
    rounded, other = (features_of(load_backbone(architecture, path, (64, 64))[0]) for path in paths.values())
    without = {key: value for key, value in weights.items() if not key.endswith(("q_bias", "v_bias"))}
    zeros = {key: value * 0 if key.endswith(("q_bias", "v_bias")) else value for key, value in weights.items()}
    assert not torch.allclose(rounded.patch_tokens, other.patch_tokens, atol=1e-2)
    assert_same(
        features_of(load_backbone(architecture, saved(without, tmp_path / "a.safetensors"), (64, 64))[0]),
        features_of(load_backbone(architecture, saved(zeros, tmp_path / "b.safetensors"), (64, 64))[0]),
    )
    assert_same(
        features_of(load_backbone(architecture, saved(weights, tmp_path / "c.safetensors"), (64, 64))[0]), rounded
    )


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


# --- text tower ---


@pytest.fixture(scope="module")
def clip() -> open_clip.model.CLIP:
    """A small CLIP of OpenAI's architecture."""
    model = open_clip.model.CLIP(
        24,
        open_clip.model.CLIPVisionCfg(layers=1, width=64, patch_size=16, image_size=32),
        open_clip.model.CLIPTextCfg(context_length=16, width=128, heads=2, layers=2),
        quick_gelu=True,
    ).eval()
    model.load_state_dict(random_tensors(model.state_dict(), name="clip"))
    return model


IDS = torch.tensor([[49406, 320, 1929, 49407], [49406, 2368, 49407, 0]])


def text_only(tensors: Tensors) -> Tensors:
    return {key: value for key, value in tensors.items() if not key.startswith(("visual.", "logit_scale"))}


LAYOUTS: dict[str, Callable[[Tensors], Tensors]] = {
    "whole": lambda tensors: tensors | {"context_length": torch.tensor(16), "input_resolution": torch.tensor(32)},
    "text tower only": text_only,
    "data parallel": lambda tensors: {f"module.{key}": value for key, value in tensors.items()},
    "open_clip custom text": lambda tensors: {
        key if key.startswith(("visual.", "logit_scale")) else f"text.{key}": value for key, value in tensors.items()
    },
    "Talk2DINO hub": lambda tensors: (
        {f"clip_model.{key}": value for key, value in tensors.items()}
        | {"model.norm.bias": torch.zeros(2), "proj.linear_layer.bias": torch.zeros(2), "logit_scale": torch.ones(())}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_towers_equal_open_clip(tmp_path: Path, clip: open_clip.model.CLIP, layout: str) -> None:
    path = saved(LAYOUTS[layout](dict(clip.state_dict())), tmp_path / "clip.safetensors")
    tower, _ = load_text_tower(path)
    padded = torch.nn.functional.pad(IDS, (0, 12))
    with torch.inference_mode():
        expected = clip.encode_text(padded)
        torch.testing.assert_close(tower(IDS), expected, atol=1e-5, rtol=1e-5)
    assert (tower.context_length, tower.width, tower.heads, tower.output_dim) == (16, 128, 2, 24)


def test_half_precision_text_weights_become_float32(tmp_path: Path, clip: open_clip.model.CLIP) -> None:
    half = {key: value.half() for key, value in clip.state_dict().items()}
    torch.save(half, tmp_path / "clip.pt")
    tower, _ = load_text_tower(str(tmp_path / "clip.pt"))
    assert {parameter.dtype for parameter in tower.parameters()} == {torch.float32}


def test_text_files_of_another_model_are_refused(tmp_path: Path, clip: open_clip.model.CLIP) -> None:
    tensors = text_only(dict(clip.state_dict()))
    del tensors["transformer.resblocks.1.mlp.c_fc.bias"]
    tensors["extra.bias"] = torch.zeros(1)
    path = saved(tensors, tmp_path / "text.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing keys \(transformer.resblocks.1.mlp.c_fc.bias\), 1 surplus keys"):
        load_text_tower(path)
    with pytest.raises(WeightsError, match="no matrix positional_embedding"):
        load_text_tower(saved({"linear.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors"))


# --- hubs ---


def put_in_cache(folder: Path, file: published.HubFile, tensors: Tensors) -> None:
    """As huggingface_hub lays its cache out."""
    snapshot = folder / f"models--{file.repository.replace('/', '--')}" / "snapshots" / file.revision
    snapshot.mkdir(parents=True)
    saved(tensors, snapshot / file.filename)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, with no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_the_authors_hub_file_gives_all_three_parts_offline(hub_cache: Path, clip: open_clip.model.CLIP) -> None:
    architecture = shallow("dinov2_vitb14_reg")
    timm_layout = stored(architecture, 28)
    projection = random_tensors(TextProjection(24, 768).state_dict(), name="projection")
    whole = {f"model.{key}": value for key, value in dinov2_authors(timm_layout).items()}
    whole |= {f"clip_model.{key}": value for key, value in clip.state_dict().items()}
    whole |= {f"proj.{key}": value for key, value in projection.items()} | {"logit_scale": torch.ones(())}
    put_in_cache(hub_cache, published.TALK2DINO_VITB, whole)
    put_in_cache(hub_cache, published.CLIP_VITB16, dict(clip.state_dict()))

    backbone, source = load_backbone(architecture, "hub", (28, 28))
    tower, _ = load_text_tower("hub")
    loaded, _ = load_projection("hub", backbone, tower)
    torch.testing.assert_close(backbone.vit.cls_token, timm_layout["cls_token"])
    assert torch.equal(tower.transformer.text_projection, clip.text_projection)
    assert torch.equal(loaded.state_dict()["linear_layer.weight"], projection["linear_layer.weight"])
    assert source.name == "lorebianchi98/Talk2DINO-ViTB/model.safetensors@d120439255ae"


def test_a_hub_out_of_reach_is_one_clear_error(hub_cache: Path) -> None:
    with pytest.raises(
        WeightsNotFoundError, match=r"timm/vit_base_patch16_clip_224.openai/.* is not in the hub's cache"
    ):
        load_text_tower("hub")


def test_models_without_a_pinned_file_say_so() -> None:
    with pytest.raises(WeightsNotFoundError, match=r"no hub file is known for the backbone of dino_vits16"):
        load_backbone(ARCHITECTURES["dino_vits16"], "hub", (32, 32))
    backbone, _ = load_backbone(shallow("dino_vits16"), "random", (32, 32))
    with pytest.raises(WeightsNotFoundError, match=r"no hub file is known for the projection of dino_vits16"):
        load_projection("hub", backbone, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "file", sorted({*published.BACKBONES.values(), *published.PROJECTIONS.values()}, key=str), ids=str
)
def test_hub_files_are_pinned_to_commits(file: published.HubFile) -> None:
    assert len(file.revision) == 40
    assert set(file.revision) <= set("0123456789abcdef")
    assert published.BACKBONES.keys() <= ARCHITECTURES.keys()


# --- model folders and projections ---


def test_a_folder_brings_its_own_weights_and_settings(model_folder: Path) -> None:
    reference = load_reference(backbone=str(model_folder))
    stored_tokens = load_file(model_folder / "backbone.safetensors")
    cls_token = stored_tokens["cls_token"] + stored_tokens["pos_embed"][:, :1]
    assert torch.equal(reference.backbone.vit.cls_token, cls_token)
    assert reference.backbone.input_size == (56, 56)
    assert reference.backbone.num_prefix_tokens == 5
    assert reference.backbone.std == (0.2, 0.2, 0.2)
    assert reference.threshold == 0.52
    assert reference.windows.stride == (28, 28)
    assert reference.text_tower.heads == 2
    assert reference.sources["text"].name == "text.safetensors"


def test_weights_given_win_over_the_folders(model_folder: Path) -> None:
    reference = load_reference(backbone=str(model_folder), projection="random", text_weights="random")
    assert reference.sources["projection"].sha256 is None
    assert reference.sources["backbone"].sha256 is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": "two"}, "depth is 'two', expected int"),
        ({"depth": 0}, "must be positive"),
        ({"colour": 1}, r"unknown keys \['colour'\]"),
        ({"architecture": "swin"}, "architecture is 'swin', expected 'dinov2'"),
        ({"num_heads": 5}, "must be multiples of their numbers of heads"),
        ({"mean": [0.5]}, "mean has 1 entries, expected 3"),
        ({"windows": {"short_side": 56}}, r"windows: missing keys \['crop_size', 'stride'\]"),
        ({"text": {"width": 8}}, "text: missing keys"),
    ],
)
def test_a_wrong_config_names_the_key(model_folder: Path, change: dict[str, object], message: str) -> None:
    path = model_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=message):
        load_reference(backbone=str(model_folder))


def test_a_config_that_is_no_json_is_refused(model_folder: Path) -> None:
    (model_folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config.json cannot be read as JSON"):
        load_reference(backbone=str(model_folder))


def test_a_projection_for_another_backbone_is_refused(model_folder: Path, tmp_path: Path) -> None:
    other = random_tensors(TextProjection(24, 64).state_dict(), name="projection")
    with pytest.raises(WeightsError, match="trained for another backbone"):
        load_reference(backbone=str(model_folder), projection=saved(other, tmp_path / "other.safetensors"))
