"""Golden files: outputs of the authors' released code at every stage, and the random weights they were made with.

A file is read whole, as the released code's runs were stored, or as a compact copy (tests/golden), which holds fewer
samples of the large stages and takes its images from beside it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from t2d_runtime.errors import DataError

WINDOW = 448
"""Side of the window that the single-window stages were computed on: `resized[:448, :448]`."""

PROMPT_SETS = {
    "sub_imagenet_template": "subset",
    "simple_imagenet_template": "simple",
    "identity_template": "identity",
    "maskclip_template": "maskclip",
    "full_imagenet_template": "full",
}
"""The released code's names of prompt sets -> ours."""

RANDOM_PROJECTION = "rand"

DINOV2 = {"vits14": (384, 12), "vitb14": (768, 12), "vitl14": (1024, 24)}
"""Architecture -> width and depth."""


@dataclass(frozen=True)
class Sampling:
    """Which part of a large stage a file holds: every so many patches, channels and pixels."""

    patches: int
    channels: int
    window_pixels: int
    image_pixels: int


WHOLE_FILE = Sampling(patches=13, channels=1, window_pixels=4, image_pixels=5)
COMPACT_FILE = Sampling(patches=104, channels=3, window_pixels=12, image_pixels=10)


@dataclass(frozen=True, eq=False)
class Golden:
    """One golden file."""

    name: str
    meta: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    image: NDArray[np.uint8]
    """(H,W,3) RGB, the original."""
    resized: NDArray[np.uint8]
    """(H',W',3), short side 448, by OpenCV."""
    sampling: Sampling

    @property
    def window(self) -> NDArray[np.uint8]:
        """(448,448,3)."""
        return self.resized[:WINDOW, :WINDOW]

    @property
    def backbone(self) -> str:
        """Name of the backbone, such as dinov2_vitb14_reg."""
        return f"dinov2_{self.meta['arch']}" + ("_reg" if self.meta["registers"] else "")

    @property
    def prompts(self) -> str:
        """Name of the prompt set."""
        return PROMPT_SETS[self.meta["template"]]

    @property
    def has_random_projection(self) -> bool:
        """Whether the projection is drawn like the other weights; a published one is a file of its own."""
        return bool(self.meta["projection"] == RANDOM_PROJECTION)

    def certain(self, stage: str, margin: float) -> NDArray[np.bool_]:
        """Where the two best scores of a pixel are further apart than `margin`, for `<stage>_labels`."""
        if f"{stage}_certain" in self.arrays:
            stored: NDArray[np.bool_] = self.arrays[f"{stage}_certain"]
            return stored
        return np.asarray(self.arrays[f"{stage}_margin"].astype(np.float32) > margin)


def read_golden(path: Path) -> Golden:
    """Read a golden file. Raises DataError where it is not one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        meta = json.loads(str(arrays.pop("meta")))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a golden file: {error}") from error
    if "image" in arrays:
        image, resized, sampling = arrays.pop("image"), arrays.pop("resized"), WHOLE_FILE
    else:
        subject = path.stem.rsplit("_", 1)[-1]
        image, resized = _picture(path.parent, subject), _picture(path.parent, f"{subject}_resized")
        sampling = COMPACT_FILE
    return Golden(path.stem, meta, arrays, image, resized, sampling)


def _picture(folder: Path, name: str) -> NDArray[np.uint8]:
    path = folder / f"{name}.webp"
    if path.is_file():
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    from skimage import data

    picture: NDArray[np.uint8] = getattr(data, name)()
    return picture


def write_weights(golden: Golden, folder: Path) -> dict[str, str]:
    """Draw a file's random weights and save them as checkpoints in the published layouts.

    Returns the paths by the names of `load_reference`'s arguments; no projection where it is a published one.
    """
    width, depth = DINOV2[golden.meta["arch"]]
    seed = golden.meta["seed"]
    files = {
        "backbone_weights": dinov2_weights(width, depth, golden.meta["registers"], seed),
        "text_weights": clip_text_weights(seed),
    }
    if golden.has_random_projection:
        files["projection"] = projection_weights(width, golden.meta["projection_seed"])
    paths = {}
    for name, tensors in files.items():
        paths[name] = str(folder / f"{name}.pth")
        torch.save(tensors, paths[name])
    return paths


class _Draw(dict[str, Tensor]):
    """Tensors drawn each from a generator of its own, seeded by its name, so that any machine draws the same."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def put(self, name: str, shape: tuple[int, ...], std: float, mean: float = 0.0) -> None:
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        self[name] = torch.from_numpy((mean + std * rng.standard_normal(shape)).astype(np.float32))

    def norm(self, name: str, width: int) -> None:
        self.put(f"{name}.weight", (width,), 0.1, 1.0)
        self.put(f"{name}.bias", (width,), 0.05)

    def linear(self, name: str, shape: tuple[int, int], std: float, bias_std: float) -> None:
        self.put(f"{name}.weight", shape, std / shape[1] ** 0.5)
        self.put(f"{name}.bias", shape[:1], bias_std)


def dinov2_weights(width: int, depth: int, registers: int, seed: int) -> dict[str, Tensor]:
    """Random weights in DINOv2's layout; positions for 37 x 37 patches."""
    draw = _Draw(seed)
    draw.put("cls_token", (1, 1, width), 0.5)
    draw.put("pos_embed", (1, 1 + 37 * 37, width), 0.3)
    if registers:
        draw.put("register_tokens", (1, registers, width), 0.5)
    draw.put("mask_token", (1, width), 0.02)
    draw.put("patch_embed.proj.weight", (width, 3, 14, 14), 0.04)
    draw.put("patch_embed.proj.bias", (width,), 0.05)
    for block in (f"blocks.{i}" for i in range(depth)):
        draw.norm(f"{block}.norm1", width)
        draw.norm(f"{block}.norm2", width)
        draw.linear(f"{block}.attn.qkv", (3 * width, width), 1.4, 0.1)
        draw.linear(f"{block}.attn.proj", (width, width), 1.0, 0.02)
        draw.put(f"{block}.ls1.gamma", (width,), 0.05, 0.35)
        # Scaled by the width also where the input is four times as wide.
        draw.put(f"{block}.mlp.fc1.weight", (4 * width, width), 1.0 / width**0.5)
        draw.put(f"{block}.mlp.fc1.bias", (4 * width,), 0.05)
        draw.put(f"{block}.mlp.fc2.weight", (width, 4 * width), 1.0 / width**0.5)
        draw.put(f"{block}.mlp.fc2.bias", (width,), 0.02)
        draw.put(f"{block}.ls2.gamma", (width,), 0.05, 0.35)
    draw.norm("norm", width)
    return dict(draw)


def clip_text_weights(seed: int) -> dict[str, Tensor]:
    """Random weights of the text tower of CLIP ViT-B/16 in OpenAI's layout."""
    width, layers = 512, 12
    draw = _Draw(seed)
    draw.put("token_embedding.weight", (49408, width), 0.5)
    draw.put("positional_embedding", (77, width), 0.03)
    for block in (f"transformer.resblocks.{i}" for i in range(layers)):
        draw.put(f"{block}.attn.in_proj_weight", (3 * width, width), 1.2 / width**0.5)
        draw.put(f"{block}.attn.in_proj_bias", (3 * width,), 0.05)
        draw.linear(f"{block}.attn.out_proj", (width, width), 0.7, 0.02)
        draw.norm(f"{block}.ln_1", width)
        draw.norm(f"{block}.ln_2", width)
        draw.put(f"{block}.mlp.c_fc.weight", (4 * width, width), 0.8 / width**0.5)
        draw.put(f"{block}.mlp.c_fc.bias", (4 * width,), 0.02)
        draw.put(f"{block}.mlp.c_proj.weight", (width, 4 * width), 0.7 / width**0.5)
        draw.put(f"{block}.mlp.c_proj.bias", (width,), 0.02)
    draw.norm("ln_final", width)
    draw.put("text_projection", (width, width), 1.0 / width**0.5)
    return dict(draw)


def projection_weights(width: int, seed: int) -> dict[str, Tensor]:
    """A random projection in the layout of the released ones, from 512 to `width`."""
    draw = _Draw(seed)
    draw.linear("linear_layer", (width, 512), 6.0, 0.02)
    draw.linear("hidden_layers.0", (width, width), 1.0, 0.02)
    return dict(draw)
