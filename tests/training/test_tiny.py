"""The small model: what is trained is what is written, the same by seed; its losses; how its masks are judged."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from t2d_export.architectures.folder_model import BACKBONE, PROJECTION, TEXT, read_config
from t2d_export.model.reference import load_reference
from t2d_export.model.towers import ImageFeatures
from t2d_runtime.errors import OptionError, OutputError
from training.commands import tiny
from training.drawing.concepts import CONCEPTS, INDEX
from training.drawing.scene_masks import BACKGROUND, IntersectionOverUnion, named_half, with_background
from training.drawing.scenes import Scene, draw_scene
from training.small.chain import train_tiny
from training.small.losses import attention_loss, caption_loss, word_loss
from training.small.model import SMALL_MODEL, TrainableBackbone, round_to_half, save_towers
from training.small.pretrain import (
    MAX_REGIONS,
    PretrainData,
    collect,
    learning_rate,
    mentioned_nouns,
    pretrain,
    region_shares,
)
from training.small.settings import QUICK, PretrainSettings

PATCH = SMALL_MODEL.patch_size
FEW_STEPS = PretrainSettings(steps=3, batch_size=4, warmup_steps=1, full_share=0.34)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a quick run writes."""
    output = tmp_path_factory.mktemp("tiny") / "model"
    assert tiny.run(_arguments("--output", str(output), "--quick")) == 0
    return output


@pytest.fixture(scope="module")
def data() -> PretrainData:
    return collect((draw_scene(1, index) for index in range(8)), PATCH)


def _arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    tiny.add_arguments(parser)
    return parser.parse_args(given)


def test_folder_is_a_model(folder: Path) -> None:
    reference = load_reference(backbone=str(folder))
    assert reference.threshold == read_config(folder).threshold
    features = reference.image_features(torch.zeros(1, 3, 224, 224))
    assert features.patch_tokens.shape == (1, 256, 192)
    assert features.cls_attention.shape == (1, 6, 256)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16e6
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]


def test_model_card_says_what_was_done(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "Label maps are not used in\n   training" in card
    assert f'"pretrain_scenes": {QUICK.pretrain_scenes}' in card
    assert max(map(len, card.splitlines())) < 200


def test_files_have_their_authors_layouts(folder: Path) -> None:
    backbone, text = load_file(folder / BACKBONE), load_file(folder / TEXT)
    assert {"cls_token", "pos_embed", "register_tokens", "mask_token", "blocks.3.ls2.gamma"} <= backbone.keys()
    assert backbone["pos_embed"].shape == (1, 257, 192)
    assert {"token_embedding.weight", "text_projection", "transformer.resblocks.0.attn.in_proj_weight"} <= text.keys()
    assert {tensor.dtype for tensor in (*backbone.values(), *text.values())} == {torch.float16}
    assert set(load_file(folder / PROJECTION)) == {
        "linear_layer.weight", "linear_layer.bias", "hidden_layers.0.weight", "hidden_layers.0.bias"
    }  # fmt: skip


def test_tokens_never_seen_are_zero(folder: Path) -> None:
    table = load_file(folder / TEXT)["token_embedding.weight"]
    used = (table != 0).any(dim=1)
    assert 50 < used.sum() < 1000
    assert used[49406]
    assert used[49407]


def test_existing_folder_is_left_alone(folder: Path) -> None:
    before = (folder / BACKBONE).read_bytes()
    with pytest.raises(OutputError, match="does not exist yet"):
        train_tiny(folder, QUICK, 0)
    assert (folder / BACKBONE).read_bytes() == before


def test_steps_below_one(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--steps is 0"):
        tiny.run(_arguments("--output", str(tmp_path / "x"), "--steps", "0"))


def test_same_seed_same_towers(data: PretrainData) -> None:
    first, second, other = (pretrain(SMALL_MODEL, FEW_STEPS, data, seed) for seed in (0, 0, 1))
    for mine, again, another in zip(first, second, other, strict=True):
        weights = mine.state_dict()
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in weights.items())
        assert not all(torch.equal(value, another.state_dict()[key]) for key, value in weights.items())


def test_what_is_saved_is_the_model(data: PretrainData, tmp_path: Path, folder: Path) -> None:
    backbone, text = pretrain(SMALL_MODEL, FEW_STEPS, data, 0)
    round_to_half(backbone)
    round_to_half(text)
    save_towers(tmp_path, SMALL_MODEL, backbone, text)
    reference = load_reference(backbone=str(tmp_path), projection=str(folder / PROJECTION))
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine, loaded = backbone(pixels), reference.backbone(pixels)
        ids = torch.tensor([[49406, 320, 1125, 49407]])
        torch.testing.assert_close(text(ids), reference.text_tower(ids), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine.patch_tokens, loaded.patch_tokens, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine.cls_attention, loaded.cls_attention, rtol=1e-4, atol=1e-4)


def test_kept_patches_are_the_patches() -> None:
    torch.manual_seed(0)
    backbone = TrainableBackbone(SMALL_MODEL).eval()
    pixels, order = torch.randn(1, 3, 224, 224), torch.randperm(256)[None]
    with torch.no_grad():
        whole, shuffled = backbone(pixels), backbone(pixels, order)
    torch.testing.assert_close(shuffled.patch_tokens, whole.patch_tokens[:, order[0]], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shuffled.cls_attention, whole.cls_attention[:, :, order[0]], rtol=1e-4, atol=1e-4)


def test_label_maps_are_not_used() -> None:
    scene = draw_scene(1, 0)
    blind = dataclasses.replace(scene, labels=np.zeros_like(scene.labels))
    ours, theirs = collect([scene], PATCH), collect([blind], PATCH)
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.shares, theirs.shares)
    assert torch.equal(ours.mentions, theirs.mentions)


def test_nouns_of_captions() -> None:
    assert mentioned_nouns(["A red sailboat on the OCEAN.", "a boat"]) == [INDEX["sea"], INDEX["boat"]]
    assert mentioned_nouns(["nothing here"]) == []


def test_shares_of_regions() -> None:
    regions = np.zeros((28, 28), dtype=np.uint8)
    regions[:, 7:14] = 3
    shares = region_shares(regions, 14)
    assert shares.shape == (4, MAX_REGIONS)
    assert shares[0, [0, 3]].tolist() == [50, 50]
    assert shares[1, 0] == 100
    assert (shares.sum(dim=1) == 100).all()


def test_learning_rate_warms_up_and_ends_at_nothing() -> None:
    settings = PretrainSettings(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) > 0.95
    assert rates[-1] < 0.001
    assert np.argmax(rates) in (8, 9, 10)


def _word_case(right: bool) -> tuple[torch.Tensor, ...]:
    """Two regions of two patches each, words 0 and 1 mentioned of three; regions look like 0 and 1, or like 2."""
    place = torch.tensor([[0, 0, 1, 1]]) if right else torch.tensor([[2, 2, 2, 2]])
    patches = 8.0 * functional.one_hot(place, 3).float()
    shares = functional.one_hot(torch.tensor([[0, 0, 1, 1]]), 2).float()
    regions = shares.transpose(1, 2) @ patches / 2
    return patches, regions, shares, torch.ones(1, 2, dtype=torch.bool), torch.tensor([[True, True, False]])


def test_word_loss_wants_each_mentioned_word_and_no_other() -> None:
    right, taken_for = word_loss(*_word_case(True))
    wrong, _ = word_loss(*_word_case(False))
    assert right < 0.05
    assert wrong > 5
    assert taken_for[0].argmax(dim=1).tolist() == [0, 0, 1, 1]


def test_word_loss_of_a_region_that_is_no_mentioned_word() -> None:
    """Both words are found, but a third region is taken for a word that nothing mentions."""
    patches = torch.tensor([[[8.0, 0, 0], [0, 8, 0], [8, 8, 0], [8, 8, 0]]])  # as well as can be: one of the two
    shares = functional.one_hot(torch.tensor([[0, 1, 2, 2]]), 3).float()
    regions = 8.0 * torch.eye(3)[None]
    loss, _ = word_loss(patches, regions, shares, torch.ones(1, 3, dtype=torch.bool), _word_case(True)[4])
    assert loss > 2


def test_word_loss_of_patches_unlike_their_regions() -> None:
    patches, regions, shares, present, mentioned = _word_case(True)
    loss, _ = word_loss(patches.flip(1), regions, shares, present, mentioned)
    assert loss > 5


def test_word_loss_of_one_word_everywhere_misses_the_other() -> None:
    patches, regions, shares, present, mentioned = _word_case(True)
    patches[0, :, 0], patches[0, :, 1] = 8.0, 0.0
    regions[0, :, 0], regions[0, :, 1] = 8.0, 0.0
    loss, _ = word_loss(patches, regions, shares, present, mentioned)
    assert loss > 2


def test_attention_loss_takes_the_best_head() -> None:
    taken_for = functional.one_hot(torch.tensor([[0, 0, 1, 1]]), 2).float()
    mentioned = torch.ones(1, 2, dtype=torch.bool)
    apart = torch.tensor([[[9.0, 9, 0, 0], [0, 0, 9.0, 9]]])
    same = torch.tensor([[[9.0, 9, 0, 0], [9.0, 9, 0, 0]]])
    assert attention_loss(apart, taken_for, mentioned) < 0.01
    assert attention_loss(same, taken_for, mentioned) > 2


def test_caption_loss_leaves_known_false_negatives_out() -> None:
    patches = torch.eye(4)[:2].repeat(2, 1, 1)  # both images show the same two things
    attention = torch.tensor([[[20.0, 0]], [[0, 20.0]]])
    features = ImageFeatures(patches, attention, torch.zeros(2, 4))
    captions = torch.eye(4)[:2]
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    assert caption_loss(features, captions, nothing) < 0.01
    assert caption_loss(features, captions.flip(0), nothing) > 5
    assert caption_loss(features, captions.flip(0), ~torch.eye(2, dtype=torch.bool)) < 0.01


def _scene(labels: np.ndarray) -> Scene:
    empty = np.zeros((*labels.shape, 3), dtype=np.uint8)
    return Scene(empty, labels.astype(np.uint8), np.zeros_like(labels, dtype=np.uint8), ())


def test_half_of_the_concepts_is_rounded_up_and_repeatable() -> None:
    scene = _scene(np.array([[0, 1, 2, 3, 4]]))
    assert len(named_half(scene, 0, 0)) == 3
    assert named_half(scene, 0, 0) == named_half(scene, 0, 0)
    assert len({named_half(scene, 0, index) for index in range(20)}) > 3
    assert set(named_half(scene, 0, 0)) <= set(CONCEPTS[:5])


def test_the_rest_is_background() -> None:
    labels = np.array([[0, 1], [5, 5]], dtype=np.uint8)
    assert with_background(labels, ["cloud"]).tolist() == [[BACKGROUND, 1], [BACKGROUND, BACKGROUND]]


def test_intersection_over_union_by_hand() -> None:
    judged = IntersectionOverUnion()
    judged.add(np.array([[0, 0, 1, 1]], dtype=np.uint8), np.array([[0, 1, 1, 1]], dtype=np.uint8))
    judged.add(np.array([[0, 2, BACKGROUND, 1]], dtype=np.uint8), np.array([[0, 0, BACKGROUND, 1]], dtype=np.uint8))
    # sky: 2 of 4; cloud: 3 of 4; sun: predicted once and never there
    expected = {"sky": 0.5, "cloud": 0.75, "sun": 0.0, "background": 1.0}
    assert judged.per_class() == pytest.approx(expected)
    assert judged.mean() == pytest.approx(sum(expected.values()) / 4)
