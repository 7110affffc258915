"""Published weights from the hub: pinned files out of its cache, or one clear error."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import torch

from t2d_export.architectures.backbones import ARCHITECTURES
from t2d_export.model.loading import load_backbone, load_projection, load_text_tower
from t2d_export.model.projection import TextProjection
from t2d_export.weights import published
from t2d_export.weights.random_weights import random_tensors
from t2d_runtime.errors import WeightsNotFoundError
from tests.export.weight_files import Tensors, dinov2_authors, saved, shallow, stored


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
    assert source.name == "hf://lorebianchi98/Talk2DINO-ViTB@d120439255ae423ad0a3f4a13896bb74ae48792f/model.safetensors"


def test_a_hub_out_of_reach_is_one_clear_error(hub_cache: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=r"timm/vit_base_patch16_clip_224.openai@.* is not in the cache"):
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
