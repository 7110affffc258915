"""Two text towers with one set of keys: which activation is taken, what says so, and how it is named."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from t2d_export import export
from t2d_export.cli import main
from t2d_export.export import ExportSettings
from t2d_export.model.loading import load_text_tower
from t2d_export.model.reference import load_reference
from t2d_export.weights.text_facts import text_facts
from t2d_runtime.bundle.manifest import Manifest
from t2d_runtime.errors import OptionError, WeightsError
from tests.export.weight_files import saved

UNKNOWN = "the activation of this text tower is unknown; using quick_gelu"
IDS = torch.tensor([[49406, 320, 1929, 49407]])


@pytest.fixture
def weights(clip: open_clip.model.CLIP) -> dict[str, torch.Tensor]:
    """A whole CLIP in open_clip's layout: nothing in it tells its activation."""
    return dict(clip.state_dict())


def taken(path: Path | str, caplog: pytest.LogCaptureFixture) -> tuple[str, bool]:
    """The activation of a tower from this path, and whether it is a guess that was warned of."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        tower, _ = load_text_tower(str(path))
    return tower.activation, UNKNOWN in caplog.text and "--text-activation" in caplog.text


KNOWN_PLACES = {
    "models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K/snapshots/7288da5a/open_clip_model.safetensors": "gelu",
    "CLIP-ViT-B-16-DataComp.XL-s13B-b90K/open_clip_model.safetensors": "gelu",
    "clip-vit-base-patch16/model.safetensors": "quick_gelu",
    "models--timm--vit_base_patch16_clip_224.openai/snapshots/main/open_clip_model.safetensors": "quick_gelu",
    "models--apple--DFN2B-CLIP-ViT-B-16/snapshots/main/open_clip_model.safetensors": "quick_gelu",
    "Talk2DINO-ViTB/text.safetensors": "quick_gelu",
    "ViT-B-16-laion2b_s34b_b88k.safetensors": "gelu",
    "ViT-B-16_laion400m_e32.safetensors": "gelu",
    "vit_b_32-quickgelu-laion400m_e31.safetensors": "quick_gelu",
    "ViT-B-16-openai.safetensors": "quick_gelu",
    "datacomp_xl_s13b_b90k.safetensors": "gelu",
}


@pytest.mark.parametrize("place", KNOWN_PLACES)
def test_a_hubs_repository_and_a_tag_of_open_clip_tell_it(
    weights: dict[str, torch.Tensor], tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    saved(weights, path)
    assert taken(path, caplog) == (KNOWN_PLACES[place], False)


@pytest.mark.parametrize("name", ["laion400m_e31", "clip", "openai/my_v1", "text_meta"])
def test_a_name_that_leaves_it_open_is_a_guess_with_a_warning(
    weights: dict[str, torch.Tensor], tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    assert taken(saved(weights, path), caplog) == ("quick_gelu", True)


SETTINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "open_clip": ("open_clip_config.json", {"model_cfg": {"embed_dim": 24, "text_cfg": {"heads": 2}}}, "gelu"),
    "open_clip quickgelu": ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}, "quick_gelu"),
    "transformers": ("config.json", {"model_type": "clip", "text_config": {"hidden_act": "gelu"}}, "gelu"),
    "transformers, silent": ("config.json", {"model_type": "clip", "text_config": {}}, "quick_gelu"),
    "transformers, older": ("config.json", {"text_config": {}, "text_config_dict": {"hidden_act": "gelu"}}, "gelu"),
    "transformers, text": ("config.json", {"model_type": "clip_text_model", "hidden_act": "gelu"}, "gelu"),
    "a model folder": ("config.json", {"text": {"activation": "gelu", "heads": 2}}, "gelu"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_beside_the_weights_tell_it(
    weights: dict[str, torch.Tensor], tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    name, content, activation = SETTINGS[case]
    (tmp_path / name).write_text(json.dumps(content))
    path = saved(weights, tmp_path / "model.safetensors")
    assert taken(path, caplog) == (activation, False)
    assert taken(tmp_path, caplog) == (activation, False)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "vit", "hidden_act": "gelu"}', '{"text": 3}'])
def test_other_settings_tell_nothing(
    weights: dict[str, torch.Tensor], tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text(content)
    assert taken(saved(weights, tmp_path / "model.safetensors"), caplog) == ("quick_gelu", True)


def test_settings_that_contradict_each_other_are_asked_about(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}')
    (tmp_path / "config.json").write_text('{"model_type": "clip", "text_config": {"hidden_act": "quick_gelu"}}')
    path = saved(weights, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"says gelu and .*config.json says quick_gelu; .*--text-activation"):
        load_text_tower(path)
    assert load_text_tower(path, activation="gelu")[0].activation == "gelu"


def test_an_activation_that_no_tower_here_has_is_named(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip_text_model", "hidden_act": "relu"}')
    path = saved(weights, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"hidden_act is 'relu', expected quick_gelu or gelu; .*--text-activation"):
        load_text_tower(path)
    assert load_text_tower(path, activation="gelu")[0].activation == "gelu"


def test_openais_own_files_are_known_by_their_digest_and_by_what_they_hold(tmp_path: Path) -> None:
    published = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"  # ViT-B/16, in its address
    assert text_facts(tmp_path / "a.pt", {}, published).activation == "quick_gelu"
    assert text_facts(tmp_path / "a.pt", {}, "00efa78f" + "0" * 56).activation == "gelu"  # ViT-B/16 of LAION 400M
    assert text_facts(tmp_path / "a.pt", {}, "0" * 64).activation is None
    marks = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    assert text_facts(tmp_path / "a.pt", marks, None).activation == "quick_gelu"


def test_the_activation_is_open_clips(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Both towers against open_clip's own; the two differ, or nothing would be tested."""
    path = saved(weights, tmp_path / "clip.safetensors")
    features = {}
    for activation in ("quick_gelu", "gelu"):
        theirs = open_clip.model.CLIP(
            24,
            open_clip.model.CLIPVisionCfg(layers=1, width=64, patch_size=16, image_size=32),
            open_clip.model.CLIPTextCfg(context_length=16, width=128, heads=2, layers=2),
            quick_gelu=activation == "quick_gelu",
        ).eval()
        theirs.load_state_dict(weights)
        with torch.inference_mode():
            features[activation] = load_text_tower(path, activation=activation)[0](IDS)
            expected = theirs.encode_text(torch.nn.functional.pad(IDS, (0, 12)))
        torch.testing.assert_close(features[activation], expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(features["quick_gelu"], features["gelu"], atol=1e-3)


def test_heads_beside_the_weights_are_taken(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    settings = tmp_path / "open_clip_config.json"
    path = saved(weights, tmp_path / "model.safetensors")
    settings.write_text('{"model_cfg": {"text_cfg": {"heads": 4}}}')
    assert load_text_tower(path)[0].heads == 4
    settings.write_text('{"model_cfg": {"text_cfg": {"heads": 5}}}')
    with pytest.raises(WeightsError, match="5 heads do not divide the width 128"):
        load_text_tower(path)


def test_a_model_folder_knows_its_own_and_guesses_for_another(
    model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_reference(backbone=str(model_folder)).text_tower.activation == "gelu"
    assert "activation" not in caplog.text
    other = saved(load_file(model_folder / "text.safetensors"), tmp_path / "other.safetensors")
    given = load_reference(backbone=str(model_folder), text_weights=other)
    assert given.text_tower.activation == "gelu"
    assert "other.safetensors: the activation of this text tower is unknown" in caplog.text
    assert "using gelu, as in the model folder" in caplog.text
    caplog.clear()
    (tmp_path / "config.json").write_text('{"model_type": "clip", "text_config": {"hidden_act": "quick_gelu"}}')
    given = load_reference(backbone=str(model_folder), text_weights=other)
    assert given.text_tower.activation == "quick_gelu"
    assert "using quick_gelu, as " in caplog.text
    caplog.clear()
    asked = load_reference(backbone=str(model_folder), text_weights=other, text_activation="gelu")
    assert asked.text_tower.activation == "gelu"
    assert "using gelu as given, although " in caplog.text


def test_random_weights_take_it_too(model_folder: Path) -> None:
    for asked, expected in ((None, "gelu"), ("quick_gelu", "quick_gelu")):
        tower, _ = load_text_tower("random", None if asked else load_config(model_folder), asked)
        assert tower.activation == expected


def load_config(folder: Path) -> Any:
    from t2d_export.architectures.folder_model import read_config

    return read_config(folder).text


def test_another_name_is_refused(model_folder: Path) -> None:
    with pytest.raises(OptionError, match="text activation is 'relu', expected quick_gelu or gelu"):
        ExportSettings(str(model_folder), text_activation="relu").load_reference()  # type: ignore[arg-type]


def test_the_command_passes_it_on_and_says_which_was_taken(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ExportSettings] = []

    def exported(settings: ExportSettings, output: Path, *, overwrite: bool) -> Manifest:
        asked.append(settings)
        return Manifest.from_json((exported_bundle / "manifest.json").read_text())

    monkeypatch.setattr(export, "export_bundle", exported)
    command = ["bundle", "--backbone", "folder", "--output", str(tmp_path / "b"), "--text-activation", "gelu"]
    assert main(command) == 0
    assert asked[0].text_activation == "gelu"
    assert "text tower: text.safetensors, activation quick_gelu" in capsys.readouterr().out
