"""Faults that look harmless are caught by the golden files, at the stage where they enter."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.parity import subjects
from benchmarks.parity.command import compare
from benchmarks.parity.golden import read_golden, write_weights
from benchmarks.parity.golden_weights import dinov2_weights
from benchmarks.parity.subjects import ReferenceSubject
from t2d_export.architectures.backbones import ARCHITECTURES
from t2d_export.architectures.position import EXACT_SIZE
from t2d_export.model import reference_masks
from t2d_export.model.loading import load_backbone
from t2d_export.model.reference import NORM_EPSILON, Reference, load_reference

GOLDEN = Path(__file__).parent.parent / "golden"

COFFEE = "vits14_448_coffee"

Patch = pytest.MonkeyPatch


def load(name: str) -> Reference:
    """The reference with a golden file's weights; their checkpoints, up to 600 MB, are gone once they are read."""
    golden = read_golden(GOLDEN / f"{name}.npz")
    side = golden.meta["input_size"]
    with tempfile.TemporaryDirectory() as folder:
        files = write_weights(golden, Path(folder))
        return load_reference(backbone=golden.backbone, input_size=(side, side), **files)


@pytest.fixture(scope="module")
def coffee() -> Reference:
    return load(COFFEE)


def first_failure(reference: Reference, name: str, last: str | None = None) -> str | None:
    """The first stage that differs from a golden file, looked for up to the stage `last`."""
    for stage in compare(read_golden(GOLDEN / f"{name}.npz"), ReferenceSubject(reference)):
        if not stage.passed:
            return stage.stage
        if stage.stage == last:
            break
    return None


def clean_with(
    attention_of: Callable[[Tensor], Tensor], extrema_of: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> object:
    """Official cleaning with another softmax, or other extrema."""

    def clean(scores: Tensor, tokens: Tensor, logits: Tensor, text_embeds: Tensor, weight: float) -> Tensor:
        relevance = reference_masks._head_relevance(logits, tokens, text_embeds)
        attention = attention_of(relevance @ logits)
        lowest, highest = extrema_of(attention)
        attention = (attention - lowest) / torch.maximum(highest, highest - lowest)
        bottom, top = extrema_of(scores)
        return (scores + weight * (attention * (top - bottom) + bottom)) / (1 + weight)

    return clean


def over_everything(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.min(), values.max()


def over_each_class(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)


def test_the_copy_of_the_cleaning_that_is_broken_below_is_right(coffee: Reference, monkeypatch: Patch) -> None:
    monkeypatch.setattr(
        reference_masks, "clean_official", clean_with(lambda logits: logits.softmax(dim=-1), over_everything)
    )
    assert first_failure(coffee, COFFEE, last="scores_cleaned") is None


def test_softmax_over_the_wrong_axis_in_cleaning(coffee: Reference, monkeypatch: Patch) -> None:
    wrong = clean_with(lambda logits: logits.softmax(dim=0), over_everything)
    monkeypatch.setattr(reference_masks, "clean_official", wrong)
    assert first_failure(coffee, COFFEE) == "scores_cleaned"


def test_extrema_per_class(coffee: Reference, monkeypatch: Patch) -> None:
    wrong = clean_with(lambda logits: logits.softmax(dim=-1), over_each_class)
    monkeypatch.setattr(reference_masks, "clean_official", wrong)
    assert first_failure(coffee, COFFEE) == "scores_cleaned"


def test_a_wrong_position_embedding_offset(coffee: Reference, tmp_path: Path) -> None:
    meta = read_golden(GOLDEN / f"{COFFEE}.npz").meta
    torch.save(dinov2_weights(meta["arch"], meta["registers"], meta["seed"]), tmp_path / "vits14.pth")
    wrong = dataclasses.replace(ARCHITECTURES["dinov2_vits14"], positions=EXACT_SIZE)
    backbone, _ = load_backbone(wrong, str(tmp_path / "vits14.pth"), coffee.backbone.input_size)
    assert first_failure(dataclasses.replace(coffee, backbone=backbone), COFFEE) == "patch_tokens"


def test_blue_for_red(coffee: Reference, monkeypatch: Patch) -> None:
    right = subjects.to_pixel_values
    monkeypatch.setattr(subjects, "to_pixel_values", lambda w, *rest: right(np.ascontiguousarray(w[..., ::-1]), *rest))
    assert first_failure(coffee, COFFEE) == "pixel_values"


def test_align_corners_swapped(coffee: Reference, monkeypatch: Patch) -> None:
    right = reference_masks.upsample

    def swapped(planes: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
        return right(planes, size, align_corners=not align_corners)

    monkeypatch.setattr(reference_masks, "upsample", swapped)
    assert first_failure(coffee, COFFEE) == "mask_bg0_pamr0"


def test_a_lost_register() -> None:
    name = "vits14_reg4_518_coffee"
    reference = load(name)
    backbone = reference.backbone
    backbone.vit.reg_token = torch.nn.Parameter(backbone.vit.reg_token[:, :-1], requires_grad=False)
    backbone.vit.num_prefix_tokens = backbone.num_prefix_tokens = backbone.num_prefix_tokens - 1
    assert first_failure(reference, name) == "patch_tokens"


def test_the_biased_standard_deviation_in_pamr(coffee: Reference, monkeypatch: Patch) -> None:
    right = Tensor.std
    monkeypatch.setattr(Tensor, "std", lambda self, dim, correction: right(self, dim=dim, correction=0))
    assert first_failure(coffee, COFFEE) == "mask_bg0_pamr1"


def test_templates_averaged_after_the_projection(monkeypatch: Patch) -> None:
    def averaged_late(self: Reference, input_ids: Tensor) -> Tensor:
        features = self.text_features(input_ids.flatten(0, 1)).reshape(*input_ids.shape[:2], -1)
        return functional.normalize(self.projection.project_text(features).mean(dim=1), dim=-1, eps=NORM_EPSILON)

    monkeypatch.setattr(Reference, "text_embeds", averaged_late)
    name = "vitb14_reg4_448_astronaut"
    assert first_failure(load(name), name) == "text_embeds"
