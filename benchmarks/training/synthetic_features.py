"""Synthetic feature sets of any size with learnable captions, for speed measurements and tests."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from training.config import TokenArray
from training.features.feature_set import FeatureManifest, write_manifest, write_shard

SIGNAL = 2.0
"""Standard deviation of the part of a caption's feature that depends on its image; the noise has 1."""


def write_synthetic_features(
    folder: Path,
    *,
    images: int,
    captions_per_image: float = 5.0,
    num_heads: int = 12,
    embed_dim: int = 768,
    text_dim: int = 512,
    images_per_shard: int = 1024,
    token_arrays: tuple[TokenArray, ...] = (),
    seed: int = 0,
) -> FeatureManifest:
    """Write a complete set and return its manifest. In each image, one random head matches the captions."""
    generator = torch.Generator().manual_seed(seed)
    captions = round(images * captions_per_image)
    manifest = FeatureManifest(
        backbone="synthetic",
        backbone_sha256="0" * 64,
        num_heads=num_heads,
        embed_dim=embed_dim,
        text="synthetic",
        text_sha256="1" * 64,
        text_dim=text_dim,
        text_width=text_dim,
        text_heads=max(1, text_dim // 64),
        quick_gelu=True,
        input_size=(448, 448),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        precision="fp32",
        dtype="float32",
        token_arrays=token_arrays,
        captions_sha256="2" * 64,
        images_listed=images,
        images_per_shard=images_per_shard,
        complete=True,
        images=images,
        captions=captions,
    )
    mixing = torch.randn(text_dim, embed_dim, generator=torch.Generator().manual_seed(0)) / text_dim**0.5
    for index in tqdm(range(manifest.shards), "synthetic features", unit="shard", disable=None, leave=False):
        start, stop = index * images_per_shard, min(images, (index + 1) * images_per_shard)
        first, last = (-(-image * captions // images) for image in (start, stop))  # rounded up: an image's own first
        rows = torch.arange(first, last) * images // captions - start
        write_shard(folder, index, manifest, _shard(manifest, mixing, rows, stop - start, start, first, generator))
    write_manifest(folder, manifest)
    return manifest


def _shard(
    manifest: FeatureManifest,
    mixing: torch.Tensor,
    rows: torch.Tensor,
    images: int,
    first_image: int,
    first_caption: int,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    topic = torch.randn(images, manifest.text_dim, generator=generator)
    heads = torch.randn(images, manifest.num_heads, manifest.embed_dim, generator=generator)
    speaking = torch.randint(manifest.num_heads, (images,), generator=generator)
    heads[torch.arange(images), speaking] += SIGNAL * (topic @ mixing)
    text = topic[rows] + 0.5 * torch.randn(len(rows), manifest.text_dim, generator=generator)
    arrays = {
        "image_ids": torch.arange(first_image, first_image + images),
        "heads": heads,
        "average": heads.mean(dim=1),
        "cls": heads[:, 0].clone(),
        "caption_ids": torch.arange(first_caption, first_caption + len(rows)),
        "caption_rows": rows,
        "text": text,
        "text_average": text.clone(),
    }
    if manifest.token_arrays:
        lengths = torch.randint(4, 9, (len(rows),), generator=generator)
        arrays["token_offsets"] = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        for name in manifest.token_arrays:
            noise = torch.randn(int(lengths.sum()), manifest.text_dim, generator=generator)
            arrays[name] = text.repeat_interleave(lengths, dim=0) + 0.5 * noise
    return arrays
