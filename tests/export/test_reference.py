"""Properties of the reference that golden files do not show; test_golden_bundle.py compares it with those."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from t2d_export.architectures.position import EXACT_SIZE, OFFSET_SCALE, resize_positions
from t2d_export.model.reference import load_reference
from t2d_export.model.reference_masks import clean, cosine_similarity, pamr, pamr_affinity
from t2d_runtime.errors import OptionError, WeightsError


@pytest.mark.parametrize("grid", [(32, 32), (20, 45)])
def test_positions_without_registers_follow_the_offset_scale(grid):
    """Bicubic convolution (a = -0.75) at (i + 0.5) * 37 / (h + 0.1) - 0.5, edges repeated, written out in numpy."""
    stored = torch.randn(1, 1 + 37 * 37, 3, generator=torch.Generator().manual_seed(0))
    rows, columns = (_bicubic_matrix(37, length, 37 / (length + 0.1)) for length in grid)
    planes = stored[0, 1:].double().numpy().reshape(37, 37, 3)
    expected = np.einsum("ar,bc,rcd->abd", rows, columns, planes)
    got = resize_positions(stored, prefix=1, grid=grid, rule=OFFSET_SCALE)
    assert torch.equal(got[:, :1], stored[:, :1])
    np.testing.assert_allclose(got[0, 1:].numpy().reshape(*grid, 3), expected, atol=2e-4)


def _bicubic_matrix(source, target, scale):
    matrix = np.zeros((target, source))
    for row in range(target):
        position = (row + 0.5) * scale - 0.5
        first = int(np.floor(position)) - 1
        for tap in range(first, first + 4):
            x = abs(position - tap)
            weight = 1.25 * x**3 - 2.25 * x**2 + 1 if x <= 1 else -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            matrix[row, min(max(tap, 0), source - 1)] += weight
    return matrix


def test_positions_of_the_stored_grid_are_untouched():
    stored = torch.randn(1, 1 + 49, 4)
    for rule in (EXACT_SIZE, OFFSET_SCALE):
        assert torch.equal(resize_positions(stored, prefix=1, grid=(7, 7), rule=rule), stored)
        assert resize_positions(stored, prefix=1, grid=(5, 9), rule=rule).shape == (1, 46, 4)


def test_positions_of_no_square_grid_are_refused():
    with pytest.raises(WeightsError, match="48 positions"):
        resize_positions(torch.zeros(1, 48, 4), prefix=1, grid=(7, 7), rule=EXACT_SIZE)


def test_a_batch_gives_what_its_images_give(model_folder):
    reference = load_reference(backbone=str(model_folder), input_size=(42, 70))
    pixels = torch.randn(3, 3, 42, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        batch = reference.image_features(pixels)
        single = [reference.image_features(pixels[i : i + 1]) for i in range(3)]
    assert batch.patch_tokens.shape == (3, 15, 48)
    assert batch.cls_attention.shape == (3, 2, 15)
    for name in batch._fields:
        parts = torch.cat([getattr(features, name) for features in single])
        torch.testing.assert_close(getattr(batch, name), parts, atol=1e-5, rtol=0)


def test_sliding_equals_the_window_where_one_covers_the_image(model_folder):
    reference = load_reference(backbone=str(model_folder))
    image = torch.randint(0, 256, (3, 56, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    text_embeds = reference.text_embeds(torch.tensor([[[49406, 320, 49407]], [[49406, 1929, 49407]]]))
    whole = reference.segment_window(image, text_embeds, cleaning="paper", refine=True)
    torch.testing.assert_close(
        reference.segment_sliding(image, text_embeds, cleaning="paper", refine=True), whole, atol=1e-6, rtol=0
    )


def test_an_input_size_off_the_patch_grid_is_refused(model_folder):
    with pytest.raises(OptionError, match="multiples of the patch size 14"):
        load_reference(backbone=str(model_folder), input_size=(56, 60))


def test_a_prompt_longer_than_the_context_is_refused(model_folder):
    reference = load_reference(backbone=str(model_folder))
    with pytest.raises(OptionError, match="13 tokens, the text tower takes 12"):
        reference.text_embeds(torch.ones(1, 1, 13, dtype=torch.int64))


def test_tokens_after_the_end_token_change_nothing(model_folder):
    reference = load_reference(backbone=str(model_folder))
    short = torch.tensor([[[49406, 320, 49407]]])
    longer = torch.tensor([[[49406, 320, 49407, 0, 7, 49407]]])
    torch.testing.assert_close(reference.text_embeds(short), reference.text_embeds(longer))


def test_paper_cleaning_maps_each_class_to_the_range_of_the_cosines():
    """Eq. 8-10 written out for one head, whose softmaxed map is then every class's attention."""
    generator = torch.Generator().manual_seed(0)
    tokens, logits = torch.randn(6, 4, generator=generator), torch.randn(1, 6, generator=generator)
    texts = torch.nn.functional.normalize(torch.randn(2, 4, generator=generator), dim=-1)
    similarity = cosine_similarity(tokens, texts)
    attention = logits.softmax(dim=-1)
    attention = (attention - attention.min()) / (attention.max() - attention.min())
    span = similarity.max() - similarity.min()
    expected = (similarity + 0.2 * (attention * span + similarity.min())) / 1.2
    got = clean(similarity, tokens, logits, texts, cleaning="paper", weight=0.2)
    torch.testing.assert_close(got, expected.sigmoid())


def test_paper_cleaning_of_flat_attention_is_finite():
    tokens, texts = torch.ones(6, 4), torch.full((2, 4), 0.5)
    similarity = cosine_similarity(tokens, texts)
    scores = clean(similarity, tokens, torch.zeros(3, 6), texts, cleaning="paper")
    assert scores.isfinite().all()


def test_pamr_keeps_constants_and_its_weights_sum_to_one():
    image = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pamr_affinity(image).sum(dim=(0, 1)), torch.ones(9, 7))
    torch.testing.assert_close(pamr(image, torch.full((2, 9, 7), 0.3)), torch.full((2, 9, 7), 0.3))
