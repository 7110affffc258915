"""The published models by name, from a hub on loopback that holds files in their layouts with random weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from t2d_export.architectures.backbones import ARCHITECTURES
from t2d_export.cli import main
from t2d_export.export import ExportSettings
from t2d_export.model.loading import CLIP_TEXT, _empty_text_transformer
from t2d_export.model.projection import TextProjection
from t2d_export.weights import published
from t2d_export.weights.random_weights import random_tensors
from t2d_runtime import Segmenter
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.errors import WeightsError, WeightsNotFoundError
from tests.export.weight_files import Tensors, dinov2_authors
from tests.hub.fixtures import hub
from tests.hub.server import LoopbackHub

__all__ = ["hub"]  # a fixture

WIDTH, TEXT_WIDTH, HUB_TEXT = 64, 64, replace(CLIP_TEXT, width=64, layers=1, heads=1, embed_dim=24)

THRESHOLDS = {
    "Talk2DINO-ViTB": 0.55,
    "Talk2DINO-ViTL": 0.54,
    "Talk2DINOv3-ViTB": 0.55,
    "Talk2DINOv3-ViTL": 0.54,
}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published backbones with one block, 64 wide: their layouts at a small size."""
    for model in published.MODELS.values():
        full = ARCHITECTURES[model.backbone]
        arguments = {"depth": 1, "embed_dim": WIDTH, "num_heads": 1}
        monkeypatch.setitem(ARCHITECTURES, model.backbone, replace(full, timm_arguments=arguments))  # type: ignore[index]


def parts(name: str) -> dict[str, Tensors]:
    """The three parts of a model as their authors name them: DINOv2's keys, or timm's of DINOv3 without biases."""
    architecture = ARCHITECTURES[published.MODELS[name].backbone]
    side = 37 * architecture.patch_size
    backbone = random_tensors(architecture.build((side, side)).state_dict(), name="backbone")
    if architecture.family == "dinov2":
        backbone = dinov2_authors(backbone)
    else:
        backbone = {key: value for key, value in backbone.items() if not key.endswith(("q_bias", "v_bias"))}
    text = random_tensors(_empty_text_transformer(HUB_TEXT).state_dict(), name="text")
    projection = random_tensors(TextProjection(HUB_TEXT.embed_dim, WIDTH).state_dict(), name="projection")
    return {"backbone": backbone, "text": text, "projection": projection}


def joined(found: dict[str, Tensors], backbone: str, text: str, projection: str) -> bytes:
    """One file with the parts below these prefixes."""
    prefixes = {"backbone": backbone, "text": text, "projection": projection}
    whole = {"logit_scale": torch.ones(())} if len(found) > 1 else {}
    whole |= {prefixes[part] + key: value for part, tensors in found.items() for key, value in tensors.items()}
    return save({key: value.contiguous() for key, value in whole.items()})


def published_as(hub: LoopbackHub, name: str, content: bytes) -> str:
    """Put a model's file on the hub; the commit of a pinned model is the pinned one."""
    weights = published.MODELS[name].weights
    commit = hub.add(weights.repository, {"model.safetensors": content, "config.json": b'{"model_type": "dinotext"}'})
    if weights.revision:
        repository = hub.repositories[weights.repository]
        repository.commits[weights.revision] = repository.commits.pop(commit)
        repository.branches["main"] = commit = weights.revision
    return commit


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", published.MODELS)
def test_one_command_from_an_empty_cache_to_a_proven_bundle(hub: LoopbackHub, tmp_path: Path, name: str) -> None:
    content = joined(parts(name), "model.", "clip_model.", "proj.")
    commit = published_as(hub, name, content)
    output = tmp_path / "bundle"
    assert main(["bundle", "--model", name, "--output", str(output)]) == 0
    manifest = Bundle.open(output).manifest
    assert manifest.model.backbone == published.MODELS[name].backbone
    assert manifest.defaults.threshold == THRESHOLDS[name]
    assert manifest.model.input_size == (448, 448)
    assert manifest.model.text_activation == "quick_gelu"
    address = f"hf://{published.MODELS[name].weights.repository}@{commit}/model.safetensors"
    assert {source.name for source in manifest.sources.values()} == {address}
    assert len({source.sha256 for source in manifest.sources.values()} - {None}) == 1
    assert all(stage.passed for stage in manifest.parity)
    assert hub.sent_bytes["model.safetensors"] == len(content)
    Segmenter.open(output, backend="onnxruntime")


LAYOUTS: dict[str, Callable[[dict[str, Tensors]], bytes]] = {
    "the authors'": lambda found: joined(found, "model.", "clip_model.", "proj."),
    "wrapped": lambda found: joined(found, "module.dino.model.", "module.dino.clip_model.", "module.dino.proj."),
    "other names": lambda found: joined(found, "backbone.", "text_encoder.", "projection."),
    "deeper": lambda found: joined(found, "dino.vit.", "clip.text_model.", "head."),
    "bare projection": lambda found: joined(found, "backbone.", "clip_model.", ""),
    "with CLIP's image tower": lambda found: joined(
        {**found, "text": {**found["text"], "visual.conv1.weight": torch.ones(WIDTH, 3, 16, 16),
                           "visual.class_embedding": torch.ones(WIDTH)}},
        "vision.", "clip.", "projection."),
}  # fmt: skip


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["Talk2DINO-ViTL", "Talk2DINOv3-ViTL"])
def test_other_prefixes_give_the_same_model(hub: LoopbackHub, name: str, layout: str) -> None:
    found = parts(name)
    published_as(hub, name, LAYOUTS[layout](found))
    reference = ExportSettings(backbone="").of_model(name).load_reference()
    projection = reference.projection.state_dict()
    assert torch.equal(projection["linear_layer.weight"], found["projection"]["linear_layer.weight"])
    assert torch.equal(reference.text_tower.transformer.text_projection, found["text"]["text_projection"])
    norm = found["backbone"]["norm.weight"]
    assert torch.equal(reference.backbone.vit.norm.weight, norm)
    assert reference.text_tower.activation == "quick_gelu"


@pytest.mark.usefixtures("narrow")
def test_a_file_of_another_model_lists_what_was_found(hub: LoopbackHub) -> None:
    name = "Talk2DINOv3-ViTB"
    published_as(hub, name, joined(parts("Talk2DINO-ViTB"), "vision.", "text.", "align."))
    with pytest.raises(WeightsError) as caught:
        ExportSettings(backbone="").of_model(name).load_reference()
    assert re.fullmatch(
        r"hf://lorebianchi98/Talk2DINOv3-ViTB@[0-9a-f]{40}/model\.safetensors holds no backbone of this model: "
        r"it holds .*vision \(\d+ tensors\).*; tried vision \(.*surplus keys.*\); name the model .*",
        str(caught.value),
    )


@pytest.mark.usefixtures("narrow")
def test_any_weights_may_be_named_on_a_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    found = parts("Talk2DINO-ViTB")
    hub.add("me/backbone", {"model.safetensors": joined({"backbone": found["backbone"]}, "", "", "")})
    old = hub.add("me/parts", {f"{part}.safetensors": joined({part: found[part]}, "", "", "") for part in found})
    hub.add("me/parts", {"a.bin": b"1", "b.bin": b"2"})
    settings = ExportSettings(
        backbone="dinov2_vitb14_reg",
        backbone_weights="hf://me/backbone",
        text_weights=f"hf://me/parts@{old}",
        projection=f"hf://me/parts@{old}/projection.safetensors",
        text_activation="quick_gelu",
    )
    sources = settings.load_reference().sources
    assert sources["text"].name == f"hf://me/parts@{old}/text.safetensors"
    sent = dict(hub.sent_bytes)
    again = settings.load_reference()
    assert hub.sent_bytes == sent
    assert again.sources == sources
    with pytest.raises(WeightsError, match=r"hf://me/parts holds 2 weights \(a.bin, b.bin\); give the name of one"):
        replace(settings, projection="hf://me/parts").load_reference()
    with pytest.raises(
        WeightsNotFoundError, match=r"hf://me/parts@.*/c.bin: the repository has no such file; it has a"
    ):
        replace(settings, projection="hf://me/parts/c.bin").load_reference()


@pytest.mark.usefixtures("narrow")
def test_what_is_cached_needs_no_network(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = "Talk2DINO-ViTL"
    published_as(hub, name, LAYOUTS["the authors'"](parts(name)))
    settings = ExportSettings(backbone="").of_model(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    seen = len(hub.seen)
    assert ExportSettings(backbone="").of_model(name) == settings
    assert len(hub.seen) == seen
    assert not caplog.records
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.fail("/api/models", status=503)
    with pytest.raises(WeightsNotFoundError, match="answers 503"):
        ExportSettings(backbone="").of_model(name)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert ExportSettings(backbone="").of_model(name) == settings
    assert "the hub cannot be asked for the newest; using hf://lorebianchi98/Talk2DINO-ViTL@" in caplog.text


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("fault", ["gone", "damaged", "gated", "cut"])
def test_each_failure_is_one_line_and_leaves_nothing(
    hub: LoopbackHub, tmp_path: Path, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    name = "Talk2DINOv3-ViTB"
    content = LAYOUTS["the authors'"](parts(name))
    published_as(hub, name, content)
    if fault == "gone":
        hub.repositories.clear()
    elif fault == "damaged":
        hub.fail("model.safetensors", content=bytes(len(content)))
    elif fault == "gated":
        hub.repositories[published.MODELS[name].weights.repository].readers = frozenset(["hf_granted"])
    else:
        hub.fail("model.safetensors", cut_at=1000)
    assert main(["bundle", "--model", name, "--output", str(tmp_path / "bundle")]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("t2d-export: error: hf://lorebianchi98/Talk2DINOv3-ViTB")
    left = [path.name for path in (tmp_path / "hf").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert not (tmp_path / "bundle").exists()
    assert all(name.endswith(".incomplete") or name.startswith(".agent") for name in left), left
    assert any(name.endswith(".incomplete") for name in left) == (fault == "cut")


def test_a_bundle_on_a_hub_is_not_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["verify", "hf://me/bundle"], ["engine", "hf://me/bundle", "--backend", "openvino"]):
        with pytest.raises(SystemExit) as ending:
            main(command)
        assert ending.value.code == 2
        assert "needs a folder; get one with 't2d pull hf://me/bundle --output DIR'" in capsys.readouterr().err


def test_an_unknown_model_lists_the_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bundle", "--model", "Talk2DINO-ViTG", "--output", str(tmp_path / "out")]) == 2
    assert (
        "model 'Talk2DINO-ViTG' is unknown: expected one of Talk2DINO-ViTB, Talk2DINO-ViTL" in capsys.readouterr().err
    )
