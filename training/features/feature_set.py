"""Features on disk: memory-mapped safetensors shards, and a manifest.

A shard holds some images, in the order of the captions file, and all of their captions. A shard is complete or
missing, and so is each image. n images, c captions, M heads, D width of the backbone, C width of the text features,
t tokens of all the captions together (start and end token included):

===================  ===========  =====================================================================
key                  shape        content
===================  ===========  =====================================================================
image_ids            (n,)         int64
heads                (n, M, D)    v_m = (1/P) sum_p softmax_p(l_m)_p f_p
average              (n, D)       the same with the one map softmax_p(mean_m l_m)
cls                  (n, D)       CLS token after the final LayerNorm
caption_ids          (c,)         int64
caption_rows         (c,)         int64, the row of the caption's image in this shard
text                 (c, C)       CLIP's text feature, at the end token
text_average         (c, C)       mean over the words' features
token_offsets        (c + 1,)     int64, where a caption's tokens begin; only beside one of the next two
tokens               (t, C)       features of every token
penultimate          (t, width)   hidden states after CLIP's last block but one
===================  ===========  =====================================================================

Source: Talk2DINO, Sec. 3.2.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors import SafetensorError
from torch import Tensor

from t2d_runtime.errors import DataError
from t2d_runtime.storage.strict_json import parse_json
from training.config import TokenArray
from training.storage import write_tensors, write_text

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
LAST_BLOCK = "last_block.safetensors"
"""CLIP's last block, final LayerNorm and text projection, from which `last_block` training starts."""

FloatArray = npt.NDArray[np.floating[Any]]
IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FeatureManifest:
    """Origin of features. All fields except the last block are known before the first image is read."""

    schema_version: int = SCHEMA_VERSION
    backbone: str
    backbone_sha256: str
    num_heads: int
    embed_dim: int
    text: str
    text_sha256: str
    text_dim: int
    text_width: int
    text_heads: int
    quick_gelu: bool
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    precision: str
    """Precision of the encoders, "fp32" or "bf16"."""
    dtype: str
    """Type of the stored features, "float32" or "float16"."""
    token_arrays: tuple[TokenArray, ...]
    captions_sha256: str
    images_listed: int
    images_per_shard: int

    complete: bool = False
    images: int = 0
    captions: int = 0
    skipped: tuple[str, ...] = ()
    """Unreadable images, as "file: reason", which were left out with their captions."""
    cut_captions: int = 0
    """Number of captions longer than the text tower's context, of which only the first words were read."""

    @property
    def shards(self) -> int:
        """Number of shards of the complete set."""
        return -(-self.images_listed // self.images_per_shard)

    def plan(self) -> FeatureManifest:
        """The manifest without the results. Runs of one plan may continue each other's shards."""
        return dataclasses.replace(self, complete=False, images=0, captions=0, skipped=(), cut_captions=0)

    def shard_metadata(self, index: int) -> dict[str, str]:
        """Facts that a shard stores about itself, so that it is never taken for one of another model."""
        return {"shard": str(index), "backbone_sha256": self.backbone_sha256, "text_sha256": self.text_sha256}


def shard_path(folder: Path, index: int) -> Path:
    """Path of a shard."""
    return folder / f"shard-{index:05d}.safetensors"


def write_shard(
    folder: Path,
    index: int,
    manifest: FeatureManifest,
    arrays: Mapping[str, Tensor],
    skipped: tuple[str, ...] = (),
    cut_captions: int = 0,
) -> None:
    """Write one shard. Raises OutputError where it cannot be written, and then leaves no file."""
    metadata = manifest.shard_metadata(index) | {"skipped": json.dumps(skipped), "cut_captions": str(cut_captions)}
    write_tensors(shard_path(folder, index), arrays, metadata)


def write_manifest(folder: Path, manifest: FeatureManifest) -> None:
    """Write the manifest of a feature set."""
    write_text(folder / MANIFEST, json.dumps(dataclasses.asdict(manifest), indent=1) + "\n")


def read_manifest(folder: Path) -> FeatureManifest:
    """Read a manifest. Raises DataError where it is missing or of another schema."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} holds no features: expected {MANIFEST}, made by 'python -m training features'")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise DataError(f"{path} has schema version {version}, expected {SCHEMA_VERSION}: extract again")
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no manifest of features ({error}): extract again") from error
    manifest = parse_json(FeatureManifest, content, str(path), DataError)
    if min(manifest.images_listed, manifest.images_per_shard, manifest.num_heads, manifest.embed_dim) < 1:
        raise DataError(f"{path} lists no images, heads or widths: extract again")
    return manifest


class Shard:
    """One memory-mapped shard. Pages are read from the file as rows are used."""

    def __init__(self, folder: Path, index: int, manifest: FeatureManifest) -> None:
        self.path = shard_path(folder, index)
        if not self.path.is_file():
            raise DataError(f"{self.path} is missing: run 'python -m training features' again, it goes on")
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                # The tensors are views of the mapped file, not copies.
                self.arrays: dict[str, Any] = {key: file.get_tensor(key).numpy() for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise DataError(f"{self.path} is damaged ({error}): delete it and extract again, it goes on") from error
        for key, expected in manifest.shard_metadata(index).items():
            if metadata.get(key) != expected:
                raise DataError(
                    f"{self.path}: {key} is {metadata.get(key)!r}, the manifest says {expected!r}: a shard of another "
                    "model; extract into an empty folder"
                )
        self._check_arrays(manifest)
        try:
            self.skipped: tuple[str, ...] = tuple(json.loads(metadata.get("skipped", "[]")))
            self.cut_captions = int(metadata.get("cut_captions", "0"))
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.path} is damaged ({error}): delete it and extract again, it goes on") from error

    def _check_arrays(self, manifest: FeatureManifest) -> None:
        """Raise DataError unless every image and caption has its row in every array."""
        images, captions = (len(self.arrays[key]) if key in self.arrays else -1 for key in ("image_ids", "caption_ids"))
        vector = (manifest.embed_dim,)
        expected = {
            "heads": (images, manifest.num_heads, *vector),
            "average": (images, *vector),
            "cls": (images, *vector),
            "caption_rows": (captions,),
            "text": (captions, manifest.text_dim),
            "text_average": (captions, manifest.text_dim),
        }
        for key, shape in expected.items():
            found = self.arrays[key].shape if key in self.arrays else None
            if found != shape:
                raise DataError(f"{self.path}: {key} has shape {found}, expected {shape}; extract into an empty folder")
        rows = self.arrays["caption_rows"]
        if captions and not (rows.min() >= 0 and rows.max() < images):
            raise DataError(f"{self.path}: captions of images that it does not hold; extract into an empty folder")


class FeatureSet:
    """A complete set of features. Captions are numbered across all shards, in their order."""

    def __init__(self, folder: Path) -> None:
        """Open a set. Raises DataError where it is incomplete, damaged, or has a shard of another model."""
        self.folder = folder
        self.manifest = read_manifest(folder)
        if not self.manifest.complete:
            raise DataError(f"{folder}: the extraction was not finished; run 'python -m training features' again")
        self.shards = [Shard(folder, index, self.manifest) for index in range(self.manifest.shards)]
        counts = [len(shard.arrays["caption_ids"]) for shard in self.shards]
        self.caption_shard = np.repeat(np.arange(len(counts)), counts)
        self.caption_row = np.concatenate([np.arange(count) for count in counts])
        self.image_row: IndexArray = np.concatenate([shard.arrays["caption_rows"] for shard in self.shards])
        self.caption_ids: IndexArray = np.concatenate([shard.arrays["caption_ids"] for shard in self.shards])
        if len(self) != self.manifest.captions:
            raise DataError(f"{folder}: {len(self)} captions in the shards, the manifest says {self.manifest.captions}")

    def __len__(self) -> int:
        return len(self.caption_ids)

    def require(self, array: str) -> None:
        """Raise DataError unless the set has `array`."""
        if array not in self.shards[0].arrays:
            raise DataError(
                f"{self.folder} has no {array!r}: extract with '--text-arrays {array}', into another folder"
            )

    def require_same_model(self, other: FeatureSet) -> None:
        """Raise DataError unless another set's features are of the same model."""
        for field in ("backbone_sha256", "text_sha256", "input_size", "embed_dim", "num_heads", "text_dim"):
            ours, theirs = getattr(self.manifest, field), getattr(other.manifest, field)
            if ours != theirs:
                raise DataError(
                    f"{other.folder}: {field} is {theirs!r}, that of {self.folder} is {ours!r}; validation features "
                    "must be of the same model"
                )

    def image_numbers(self) -> IndexArray:
        """The index of every caption's image across all shards, (captions,) int64."""
        counts = [len(shard.arrays["image_ids"]) for shard in self.shards]
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return np.asarray(first[self.caption_shard] + self.image_row, dtype=np.int64)
