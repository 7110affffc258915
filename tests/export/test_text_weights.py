"""Text towers from every published layout of CLIP: the same model from each, or an error that names the keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch

from t2d_export.model.loading import load_text_tower
from t2d_runtime.errors import WeightsError
from tests.export.weight_files import Tensors, saved

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


def test_the_tower_of_the_authors_file_is_known_to_be_openais(
    tmp_path: Path, clip: open_clip.model.CLIP, caplog: pytest.LogCaptureFixture
) -> None:
    tower, _ = load_text_tower(saved(LAYOUTS["Talk2DINO hub"](dict(clip.state_dict())), tmp_path / "all.safetensors"))
    assert tower.activation == "quick_gelu"
    assert "--text-activation" not in caplog.text


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
