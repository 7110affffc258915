"""Files that Hugging Face's transformers writes: what its own models compute, and the bits of the same weights in their
authors' layouts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from t2d_export.architectures.backbones import ARCHITECTURES, Architecture
from t2d_export.architectures.position import EXACT_SIZE
from t2d_export.model.loading import load_backbone, load_text_tower
from t2d_export.model.reference import load_reference
from t2d_runtime.errors import WeightsError
from tests.export.weight_files import saved

IDS = torch.tensor([[49406, 320, 1929, 49407], [49406, 2368, 49407, 0]])
VIT = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
TEXT = {
    "vocab_size": 49408, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1,
    "projection_dim": 24, "max_position_embeddings": 16,
}  # fmt: skip
VISION = {
    "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
    "patch_size": 14, "projection_dim": 24,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def drawn(model: PreTrainedModel) -> PreTrainedModel:
    """The model with every parameter drawn anew: as made, biases are zero and norms one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            mean = 1.0 if re.search(r"norm\d?\.weight$", name) else 0.0
            value.copy_(mean + 0.15 * torch.randn(value.shape, generator=generator))
    return model.eval()


def written(model: PreTrainedModel, folder: Path) -> str:
    """The folder that `save_pretrained` wrote."""
    model.save_pretrained(folder)
    return str(folder)


def pixels(side: int = 56) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def small(name: str, **arguments: object) -> Architecture:
    """A published architecture at these tests' size."""
    sizes = {"embed_dim": 48, "depth": 2, "num_heads": 2, **arguments}
    return replace(ARCHITECTURES[name], timm_arguments=sizes, positions=EXACT_SIZE)


def assert_tokens(architecture: Architecture, weights: str, expected: torch.Tensor) -> None:
    """All tokens but registers equal those of transformers' model."""
    backbone, _ = load_backbone(architecture, weights, (56, 56))
    with torch.inference_mode():
        got = backbone(pixels())
    patches = got.patch_tokens.shape[1]
    torch.testing.assert_close(got.patch_tokens, expected[:, -patches:], atol=2e-5, rtol=0)
    torch.testing.assert_close(got.cls_token, expected[:, 0], atol=2e-5, rtol=0)


@torch.inference_mode()
def test_dinov2_with_and_without_registers_and_with_gates(tmp_path: Path) -> None:
    models = {
        "dinov2_vits14": Dinov2Model(Dinov2Config(**VIT)),
        "dinov2_vits14_reg": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**VIT)),
        "dinov2_vitg14": Dinov2Model(Dinov2Config(**VIT, use_swiglu_ffn=True)),
        "dinov2_vitg14_reg": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**VIT, use_swiglu_ffn=True)),
    }
    for name, model in models.items():
        expected = drawn(model)(pixels()).last_hidden_state
        assert_tokens(small(name), written(model, tmp_path / name), expected)
        in_memory = saved(dict(model.state_dict()), tmp_path / f"{name}.safetensors")
        assert_tokens(small(name), in_memory, expected)


def test_the_bits_are_those_of_the_authors_layout(model_folder: Path, tmp_path: Path) -> None:
    """Query, key and value one below the other, every other tensor as it is."""
    config = Dinov2WithRegistersConfig(**VIT)
    folder = written(drawn(Dinov2WithRegistersModel(config)), tmp_path / "hf")
    vit = load_reference(backbone=str(model_folder), backbone_weights=folder).backbone.vit
    stored = transformers.AutoModel.from_pretrained(folder).state_dict()
    layer = "encoder.layer.1.attention"
    qkv = torch.cat([stored[f"{layer}.{letter}_proj.weight"] for letter in "qkv"])
    assert torch.equal(vit.blocks[1].attn.qkv.weight, qkv)
    assert torch.equal(vit.blocks[1].ls2.gamma, stored["encoder.layer.1.layer_scale2.lambda1"])
    assert torch.equal(vit.reg_token, stored["embeddings.register_tokens"])
    assert torch.equal(vit.pos_embed, stored["embeddings.position_embeddings"][:, 1:])


def test_a_classifier_on_it_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = drawn(Dinov2ForImageClassification(Dinov2Config(**VIT)))
    with torch.inference_mode():
        expected = model.dinov2(pixels()).last_hidden_state
    assert_tokens(small("dinov2_vits14"), written(model, tmp_path / "hf"), expected)
    assert "backbone from dinov2: left out classifier (2 tensors)" in caplog.text


@torch.inference_mode()
def test_vision_transformers_of_dino_and_mae(tmp_path: Path) -> None:
    sizes = {**VIT, "intermediate_size": 192, "layer_norm_eps": 1e-6}
    dino = drawn(ViTModel(ViTConfig(**sizes)))
    assert_tokens(
        replace(small("dino_vits16", patch_size=14), patch_size=14),
        written(dino, tmp_path / "dino"),
        dino(pixels()).last_hidden_state,
    )
    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    mae = drawn(ViTMAEForPreTraining(ViTMAEConfig(**sizes, **decoder, decoder_intermediate_size=64)))
    backbone, _ = load_backbone(
        replace(small("mae_vitb16", patch_size=14), patch_size=14), written(mae, tmp_path / "mae"), (56, 56)
    )
    assert torch.equal(backbone.vit.cls_token, mae.state_dict()["vit.embeddings.cls_token"])


@pytest.mark.parametrize("whole", [True, False])
@torch.inference_mode()
def test_the_image_tower_of_a_clip(tmp_path: Path, whole: bool) -> None:
    if whole:
        model = drawn(CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24)))
        tower = model.vision_model
    else:
        model = drawn(CLIPVisionModel(CLIPVisionConfig(**VISION)))
        tower = getattr(model, "vision_model", model)
    expected = tower.post_layernorm(tower(pixels()).last_hidden_state)
    assert_tokens(small("clip_vitl14"), written(model, tmp_path / "hf"), expected)


def clip_model() -> PreTrainedModel:
    return drawn(CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24)))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@torch.inference_mode()
def test_text_towers_of_clip(tmp_path: Path, activation: str, caplog: pytest.LogCaptureFixture) -> None:
    text = {**TEXT, "hidden_act": activation}
    alone = drawn(CLIPTextModelWithProjection(CLIPTextConfig(**text)))
    whole = drawn(CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)))
    expected = {
        "alone": alone(IDS).text_embeds,
        "whole": whole.text_projection(whole.text_model(IDS).pooler_output),
    }
    for name, model in {"alone": alone, "whole": whole}.items():
        tower, _ = load_text_tower(written(model, tmp_path / name))
        torch.testing.assert_close(tower(IDS), expected[name], atol=2e-5, rtol=1e-5)
    assert "left out visual (" in caplog.text
    assert "--text-activation" not in caplog.text


def test_a_text_tower_without_its_projection_is_one_clear_error(tmp_path: Path) -> None:
    folder = written(drawn(CLIPTextModel(CLIPTextConfig(**TEXT))), tmp_path / "hf")
    with pytest.raises(WeightsError, match=r"hf: a text tower without its text_projection, .*CLIPTextModelWithProj"):
        load_text_tower(folder)


def test_older_files_with_position_ids_are_read(tmp_path: Path) -> None:
    tensors = dict(clip_model().state_dict()) | {"text_model.embeddings.position_ids": torch.arange(16)[None]}
    tower, _ = load_text_tower(saved(tensors, tmp_path / "clip.safetensors"))
    assert tower.output_dim == 24


@pytest.mark.parametrize("shards", [False, True])
def test_sharded_files_of_transformers(tmp_path: Path, model_folder: Path, shards: bool) -> None:
    model = drawn(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**VIT)))
    model.save_pretrained(tmp_path / "hf", max_shard_size="100KB" if shards else "1GB")
    assert (tmp_path / "hf" / "model.safetensors.index.json").is_file() == shards
    vit = load_reference(backbone=str(model_folder), backbone_weights=str(tmp_path / "hf")).backbone.vit
    assert torch.equal(vit.norm.weight, model.state_dict()["layernorm.weight"])


def test_a_layer_that_nobody_knows_is_named(tmp_path: Path) -> None:
    tensors: dict[str, Any] = dict(Dinov2Model(Dinov2Config(**VIT)).state_dict())
    tensors["encoder.layer.0.gate.weight"] = torch.ones(2)
    with pytest.raises(WeightsError, match=r"1 surplus keys \(blocks.0.gate.weight\)"):
        load_backbone(small("dinov2_vits14"), saved(tensors, tmp_path / "odd.safetensors"), (56, 56))


def test_a_bias_of_keys_that_dinov3_has_no_place_for_is_refused(tmp_path: Path) -> None:
    config = transformers.DINOv3ViTConfig(
        **{**VIT, "patch_size": 16, "image_size": 64}, intermediate_size=192, num_register_tokens=4, key_bias=True
    )
    folder = written(drawn(transformers.DINOv3ViTModel(config)), tmp_path / "hf")
    with pytest.raises(WeightsError, match=r"surplus keys \(blocks.0.attn.k_bias"):
        load_backbone(small("dinov3_vitb16"), folder, (64, 64))
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["key_bias"]
