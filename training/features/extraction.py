"""Extracts a set of features from images and captions, with the frozen towers.

Each shard holds the images at fixed places of the captions file, and every batch lies within a shard. So a run that was
killed goes on with the next shard and gives the same features as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from t2d_runtime.bundle.files import sha256_of
from t2d_runtime.errors import DataError, NotFiniteError
from training.config import FeatureConfig
from training.device import open_device
from training.features.captions import CaptionedImage, CaptionFile, read_captions
from training.features.encoding import Encoders, ImageVectors, clip_tokenizer, load_towers
from training.features.feature_set import (
    LAST_BLOCK,
    MANIFEST,
    FeatureManifest,
    Shard,
    read_manifest,
    shard_path,
    write_manifest,
    write_shard,
)
from training.features.finite import not_finite_row
from training.features.images import image_batches, loading_processes
from training.folders import check_output_folder
from training.storage import remove_leftovers, write_tensors

logger = logging.getLogger(__name__)


def extract(config: FeatureConfig) -> FeatureManifest:
    """Extract features, or continue an interrupted extraction; returns the manifest of the complete set.

    An image that cannot be read is reported and left out with its captions; the manifest lists these images.
    Raises DataError for unusable captions, where no image or too few images (`config.max_unreadable`) can be read, and
    where the folder holds other features. Raises NotFiniteError at the first feature that is not finite, OutputError
    where the folder cannot be written, and the errors of `load_reference`.
    """
    data = read_captions(config.captions, config.images)
    check_output_folder(config.output)
    encoders = load_encoders(config)
    manifest = _begin(config, plan(config, data, encoders))
    if manifest.complete:
        logger.info("%s is complete already", config.output)
        _report(config.output, manifest, encoders)
        return manifest
    if "penultimate" in config.token_arrays:
        write_tensors(config.output / LAST_BLOCK, encoders.last_block_state())
    Extraction(config, manifest, data.images, encoders).run()
    return _finish(config.output, manifest, encoders)


class Extraction:
    """Makes the shards of a set that are still missing."""

    def __init__(
        self, config: FeatureConfig, manifest: FeatureManifest, images: Sequence[CaptionedImage], encoders: Encoders
    ) -> None:
        self.config = config
        self.manifest = manifest
        self.images = images
        self.encoders = encoders
        written = (n for n in range(manifest.shards) if shard_path(config.output, n).is_file())
        # Shards without a readable image are made again, since it costs nothing and the images may exist now.
        done = {n: shard for n in written if len((shard := Shard(config.output, n, manifest)).arrays["image_ids"])}
        self.missing = [n for n in range(manifest.shards) if n not in done]
        self.unreadable = sum(len(shard.skipped) for shard in done.values())

    def run(self) -> None:
        """Make the shards. Raises DataError for too many unreadable images, NotFiniteError, OutputError."""
        config, per_shard = self.config, self.config.images_per_shard
        ranges = {n: range(n * per_shard, min(len(self.images), (n + 1) * per_shard)) for n in self.missing}
        batches = [
            list(places[start : start + config.batch_size])
            for places in ranges.values()
            for start in range(0, len(places), config.batch_size)
        ]
        paths = [image.path for image in self.images]
        vectors: dict[int, ImageVectors] = {}
        skipped: dict[int, str] = {}
        done = len(self.images) - sum(map(len, ranges.values()))
        progress = tqdm(total=len(self.images), initial=done, desc="features", unit="image", disable=None)
        with loading_processes(), progress as bar:
            loaded = image_batches(paths, batches, self.encoders.backbone.input_size, config.workers)
            for batch, read in zip(batches, loaded, strict=True):
                if read.positions:
                    encoded = self.encoders.encode_images(read.crops)
                    rows = (ImageVectors(*row) for row in zip(*encoded, strict=True))
                    vectors.update(zip(read.positions, rows, strict=True))
                skipped.update(read.unreadable)
                self._check_unreadable(read.unreadable)
                bar.update(len(batch))
                shard = batch[0] // per_shard
                if batch[-1] == ranges[shard][-1]:
                    self._write(shard, ranges[shard], vectors, skipped)
                    vectors, skipped = {}, {}

    def _check_unreadable(self, reasons: dict[int, str]) -> None:
        for reason in reasons.values():
            logger.warning("left out: %s", reason)
        self.unreadable += len(reasons)
        limit, listed = self.config.max_unreadable, len(self.images)
        last = f"the last: {list(reasons.values())[-1]}" if reasons else ""
        if self.unreadable == listed:
            self._remove_all()
            raise DataError(f"none of {listed} images can be read, {last}; name their folder with --images")
        if reasons and self.unreadable > limit * listed:
            raise DataError(
                f"{self.unreadable} of {listed} images cannot be read, more than {100 * limit:.3g}%, {last}; repair or "
                "remove them"
            )

    def _remove_all(self) -> None:
        """Remove a set without images, so that a run with the right --images does not continue it."""
        folder = self.config.output
        for path in (*(shard_path(folder, n) for n in range(self.manifest.shards)), folder / LAST_BLOCK):
            path.unlink(missing_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder holds other files
            folder.rmdir()

    def _write(self, shard: int, places: range, vectors: dict[int, ImageVectors], skipped: dict[int, str]) -> None:
        readable = [place for place in places if place in vectors]
        captions = [(row, image) for row, image in enumerate(self.images[place] for place in readable)]
        texts = [caption for _, image in captions for caption in image.captions]
        features = _stack(vectors, readable, self.manifest) | self.encoders.encode_captions(
            texts, self.config.token_arrays
        )
        if self.config.dtype == "float16":
            features = {key: value.half() if value.is_floating_point() else value for key, value in features.items()}
        self._check_finite(features, captions)
        indices = {
            "image_ids": [image.image_id for _, image in captions],
            "caption_ids": [caption_id for _, image in captions for caption_id in image.caption_ids],
            "caption_rows": [row for row, image in captions for _ in image.captions],
        }
        arrays = features | {key: torch.tensor(values, dtype=torch.int64) for key, values in indices.items()}
        reasons = tuple(skipped[place] for place in sorted(skipped))
        write_shard(self.config.output, shard, self.manifest, arrays, reasons, self.encoders.cut_captions)

    def _check_finite(self, features: dict[str, Tensor], captions: Sequence[tuple[int, CaptionedImage]]) -> None:
        found = not_finite_row(features)
        if found is None:
            return
        name, row = found
        if name in ImageVectors._fields:
            owner = str(captions[row][1].path)
        else:
            if name in self.config.token_arrays:
                row = int(torch.searchsorted(features["token_offsets"], row, right=True)) - 1
            owner = f"the caption {[text for _, image in captions for text in image.captions][row]!r:.80}"
        raise NotFiniteError(
            f"{owner}: its features ({name}) are not finite with {self.config.precision} encoders, stored in "
            f"{self.config.dtype}; use other weights, --precision fp32 or --dtype float32; shards written before stay"
        )


def _stack(vectors: dict[int, ImageVectors], places: Sequence[int], manifest: FeatureManifest) -> dict[str, Tensor]:
    if not places:
        width = manifest.embed_dim
        empty = ImageVectors(torch.empty(0, manifest.num_heads, width), torch.empty(0, width), torch.empty(0, width))
        return empty._asdict()
    return {name: torch.stack([getattr(vectors[place], name) for place in places]) for name in ImageVectors._fields}


def load_encoders(config: FeatureConfig) -> Encoders:
    """The frozen towers of an extraction, on its device and in its precision. Raises as `load_reference`."""
    device = open_device(config.device)
    towers = load_towers(
        config.backbone, config.backbone_weights, config.text_weights, config.input_size, config.text_activation
    )
    tokenizer = clip_tokenizer(towers.text_tower.context_length)
    return Encoders(towers, tokenizer, bf16=config.precision == "bf16", device=device)


def plan(config: FeatureConfig, data: CaptionFile, encoders: Encoders) -> FeatureManifest:
    """The manifest of an extraction before its first image."""
    backbone, text, sources = encoders.backbone, encoders.text_tower, encoders.sources
    return FeatureManifest(
        backbone=backbone.name,
        backbone_sha256=sources["backbone"].sha256 or sources["backbone"].name,
        num_heads=backbone.num_heads,
        embed_dim=backbone.embed_dim,
        text=sources["text"].name,
        text_sha256=sources["text"].sha256 or sources["text"].name,
        text_dim=text.output_dim,
        text_width=text.width,
        text_heads=text.heads,
        quick_gelu=encoders.quick_gelu,
        input_size=backbone.input_size,
        mean=backbone.mean,
        std=backbone.std,
        precision=config.precision,
        dtype=config.dtype,
        token_arrays=config.token_arrays,
        captions_sha256=sha256_of(data.path),
        images_listed=len(data.images),
        images_per_shard=config.images_per_shard,
    )


def _begin(config: FeatureConfig, planned: FeatureManifest) -> FeatureManifest:
    """The manifest to continue with, after a check that the folder is new or holds the same plan."""
    folder = config.output
    if not (folder / MANIFEST).is_file():
        if folder.is_dir() and any(folder.glob("shard-*")):
            raise DataError(f"{folder} holds shards without {MANIFEST}; name an empty folder")
        write_manifest(folder, planned)
        return planned
    remove_leftovers(folder, "shard-*.safetensors")
    found = read_manifest(folder)
    ours, theirs = dataclasses.asdict(planned), dataclasses.asdict(found.plan())
    different = [f"{key} is {theirs[key]!r}, asked for {ours[key]!r}" for key in ours if ours[key] != theirs[key]]
    if different:
        raise DataError(f"{folder} holds other features ({'; '.join(different)}); name another --output")
    return found


def _finish(folder: Path, planned: FeatureManifest, encoders: Encoders) -> FeatureManifest:
    shards = [Shard(folder, number, planned) for number in range(planned.shards)]
    manifest = dataclasses.replace(
        planned,
        complete=True,
        images=sum(len(shard.arrays["image_ids"]) for shard in shards),
        captions=sum(len(shard.arrays["caption_ids"]) for shard in shards),
        skipped=tuple(reason for shard in shards for reason in shard.skipped),
        cut_captions=sum(shard.cut_captions for shard in shards),
    )
    write_manifest(folder, manifest)
    _report(folder, manifest, encoders)
    return manifest


def _report(folder: Path, manifest: FeatureManifest, encoders: Encoders) -> None:
    """Print the last lines of a run: cut captions, and counts."""
    if manifest.cut_captions:
        logger.warning(
            "%d of %d captions have more than %d tokens and were cut there: the text tower takes no more",
            manifest.cut_captions,
            manifest.captions,
            encoders.tokenizer.context_length - 2,
        )
    unreadable = len(manifest.skipped)
    left_out = f"; {unreadable} of {manifest.images_listed} images could not be read and were left out"
    logger.info(
        "%d captions of %d images in %s%s", manifest.captions, manifest.images, folder, left_out if unreadable else ""
    )
