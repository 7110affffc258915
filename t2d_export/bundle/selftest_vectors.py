"""The self-test of a bundle: the PyTorch reference's outputs for a picture and some words, stage by stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2d_export.model.reference import Reference
from t2d_export.model.reference_masks import clean, cosine_similarity, pamr, stitch, upsample, with_background
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS, Manifest, WindowSettings
from t2d_runtime.image.preprocess import resize, to_pixel_values
from t2d_runtime.image.windows import cut_windows, resized_size, size_of, window_boxes
from t2d_runtime.proof.selftest import PIXEL_STEP, PLANE_STEP, SelfTestVectors
from t2d_runtime.words.text import Tokenizer, build_prompts

CLASS_NAMES = ("sky", "green grass", "person", "car", "traffic light")
"""Class names of one token and of several."""


def selftest_vectors(reference: Reference, manifest: Manifest, tokenizer: Path) -> SelfTestVectors:
    """Run the reference on a drawn picture that is resized and cut into two windows."""
    image = test_picture(manifest.windows)
    resized = resize(image, resized_size(size_of(image), manifest.windows))
    boxes = window_boxes(size_of(resized), manifest.windows)
    crops = cut_windows(resized, boxes)
    pixel_values = to_pixel_values(crops, manifest.model.input_size, manifest.preprocessing)
    input_ids = _input_ids(manifest, tokenizer)
    with torch.inference_mode():
        text_embeds = reference.text_embeds(torch.from_numpy(input_ids))
        features = reference.image_features(torch.from_numpy(pixel_values))
        similarity = cosine_similarity(features.patch_tokens, text_embeds)
        windows = list(zip(similarity, features.patch_tokens, features.cls_attention, strict=True))
        weight = manifest.defaults.cleaning_weight
        scores = torch.stack([clean(*window, text_embeds, cleaning=None) for window in windows])
        cleaned = torch.stack([clean(*window, text_embeds, cleaning="official", weight=weight) for window in windows])
        h, w = manifest.model.grid_size
        planes = [upsample(plane.reshape(-1, h, w), crops.shape[1:3], align_corners=True) for plane in cleaned]
        refined = [
            pamr(torch.from_numpy(crop).permute(2, 0, 1), plane) for crop, plane in zip(crops, planes, strict=True)
        ]
        scores_of_image = stitch(refined, boxes, (len(CLASS_NAMES), *size_of(resized)))
        stitched = upsample(scores_of_image, size_of(image), align_corners=False)
        ranked = with_background(stitched, manifest.defaults.threshold).topk(2, dim=0).values
        labels = with_background(stitched, manifest.defaults.threshold).argmax(dim=0)
    return SelfTestVectors(
        image=image,
        class_names=CLASS_NAMES,
        input_ids=input_ids,
        text_embeds=text_embeds.numpy(),
        pixel_values=pixel_values[:, :, ::PIXEL_STEP, ::PIXEL_STEP],
        patch_tokens=_on_grid(features.patch_tokens.transpose(1, 2), manifest).transpose(0, 2, 3, 1),
        cls_attention=_on_grid(features.cls_attention, manifest),
        similarity=_on_grid(similarity, manifest),
        scores=_on_grid(scores, manifest),
        cleaned_scores=_on_grid(cleaned, manifest),
        upsampled=planes[0][:, ::PLANE_STEP, ::PLANE_STEP].numpy(),
        refined=refined[0][:, ::PLANE_STEP, ::PLANE_STEP].numpy(),
        stitched=stitched[:, ::PLANE_STEP, ::PLANE_STEP].numpy(),
        label_map=labels.numpy().astype(np.uint8),
        label_margin=(ranked[0] - ranked[1]).numpy(),
    )


def test_picture(windows: WindowSettings) -> NDArray[np.uint8]:
    """A picture (H,W,3) of smooth colours, edges and grain. Its size makes it be resized and cut into two windows."""
    height, width = round(0.8 * windows.short_side), windows.short_side
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / windows.short_side
    colours = np.stack([0.5 + 0.4 * np.sin(9 * x + 2), 0.3 + 0.5 * y, 0.8 - 0.6 * x * y], axis=-1)
    for _ in range(12):
        centre, radius = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.25)
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        colours[inside] = rng.uniform(0, 1, 3)
    grain = rng.normal(0, 0.03, colours.shape)
    return np.clip(255 * (colours + grain) + 0.5, 0, 255).astype(np.uint8)


def _input_ids(manifest: Manifest, tokenizer: Path) -> NDArray[np.int64]:
    templates = manifest.prompt_sets[DEFAULT_PROMPTS]
    prompts = build_prompts(CLASS_NAMES, templates)
    encoder = Tokenizer.from_file(tokenizer, manifest.model.context_length)
    ids = encoder.encode([prompt for group in prompts for prompt in group])
    return ids.reshape(len(CLASS_NAMES), len(templates), -1)


def _on_grid(rows: Tensor, manifest: Manifest) -> NDArray[np.float32]:
    """(W,n,P) -> (W,n,h,w)."""
    grid: NDArray[np.float32] = rows.reshape(*rows.shape[:2], *manifest.model.grid_size).numpy()
    return grid
