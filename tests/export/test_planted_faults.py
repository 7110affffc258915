"""Faults that look harmless are caught by the golden files, at the stage where they enter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import subjects
from benchmarks.golden import read_golden, write_weights
from benchmarks.parity import compare
from benchmarks.subjects import ReferenceSubject
from t2d_export import backbones, reference_masks
from t2d_export.position import EXACT_SIZE
from t2d_export.reference import NORM_EPSILON, Reference, load_reference

GOLDEN = Path(__file__).parent.parent / "golden"

Patch = pytest.MonkeyPatch


def model_of(name: str, folder: Path) -> Reference:
    golden = read_golden(GOLDEN / f"{name}.npz")
    files = write_weights(golden, folder)
    size = (golden.meta["input_size"],) * 2
    return load_reference(
        backbone=golden.backbone,
        backbone_weights=files["backbone_weights"],
        text_weights=files["text_weights"],
        projection=files["projection"],
        input_size=size,
    )


def first_failure(name: str, folder: Path, *, change: Callable[[Reference], Reference] = lambda r: r) -> str | None:
    subject = ReferenceSubject(change(model_of(name, folder)))
    stages = compare(read_golden(GOLDEN / f"{name}.npz"), subject)
    return next((stage.stage for stage in stages if not stage.passed), None)


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


def test_the_copy_of_the_cleaning_that_is_broken_below_is_right(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(
        reference_masks, "clean_official", clean_with(lambda logits: logits.softmax(dim=-1), over_everything)
    )
    name = "vits14_448_coffee"
    subject = ReferenceSubject(model_of(name, tmp_path))
    stages = {stage.stage: stage for stage in compare(read_golden(GOLDEN / f"{name}.npz"), subject)}
    assert all(stage.passed for stage in stages.values())


def test_softmax_over_the_wrong_axis_in_cleaning(tmp_path: Path, monkeypatch: Patch) -> None:
    wrong = clean_with(lambda logits: logits.softmax(dim=0), over_everything)
    monkeypatch.setattr(reference_masks, "clean_official", wrong)
    assert first_failure("vits14_448_coffee", tmp_path) == "scores_cleaned"


def test_extrema_per_class(tmp_path: Path, monkeypatch: Patch) -> None:
    wrong = clean_with(lambda logits: logits.softmax(dim=-1), over_each_class)
    monkeypatch.setattr(reference_masks, "clean_official", wrong)
    assert first_failure("vits14_448_coffee", tmp_path) == "scores_cleaned"


def test_a_wrong_position_embedding_offset(tmp_path: Path, monkeypatch: Patch) -> None:
    name = "dinov2_vits14"
    wrong = dataclasses.replace(backbones.ARCHITECTURES[name], positions=EXACT_SIZE)
    monkeypatch.setattr(backbones, "ARCHITECTURES", {**backbones.ARCHITECTURES, name: wrong})
    assert first_failure("vits14_448_coffee", tmp_path) == "patch_tokens"


def test_blue_for_red(tmp_path: Path, monkeypatch: Patch) -> None:
    right = subjects.to_pixel_values
    monkeypatch.setattr(subjects, "to_pixel_values", lambda w, *rest: right(np.ascontiguousarray(w[..., ::-1]), *rest))
    assert first_failure("vits14_448_coffee", tmp_path) == "pixel_values"


def test_align_corners_swapped(tmp_path: Path, monkeypatch: Patch) -> None:
    right = reference_masks.upsample

    def swapped(planes: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
        return right(planes, size, align_corners=not align_corners)

    monkeypatch.setattr(reference_masks, "upsample", swapped)
    assert first_failure("vits14_448_coffee", tmp_path) == "mask_bg0_pamr0"


def test_a_lost_register(tmp_path: Path) -> None:
    def without_one(reference: Reference) -> Reference:
        vit = reference.backbone.vit
        vit.reg_token = torch.nn.Parameter(vit.reg_token[:, :-1], requires_grad=False)
        vit.num_prefix_tokens = reference.backbone.num_prefix_tokens = reference.backbone.num_prefix_tokens - 1
        return reference

    assert first_failure("vits14_reg4_518_coffee", tmp_path, change=without_one) == "patch_tokens"


def test_the_biased_standard_deviation_in_pamr(tmp_path: Path, monkeypatch: Patch) -> None:
    right = Tensor.std
    monkeypatch.setattr(Tensor, "std", lambda self, dim, correction: right(self, dim=dim, correction=0))
    assert first_failure("vits14_448_coffee", tmp_path) == "mask_bg0_pamr1"


def test_templates_averaged_after_the_projection(tmp_path: Path, monkeypatch: Patch) -> None:
    def averaged_late(self: Reference, input_ids: Tensor) -> Tensor:
        features = self.text_features(input_ids.flatten(0, 1)).reshape(*input_ids.shape[:2], -1)
        return functional.normalize(self.projection.project_text(features).mean(dim=1), dim=-1, eps=NORM_EPSILON)

    monkeypatch.setattr(Reference, "text_embeds", averaged_late)
    assert first_failure("vitb14_reg4_448_astronaut", tmp_path) == "text_embeds"
