"""Panels of the figures: pictures by their titles."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.vocabulary import ClassEmbeddings

Panels = dict[str, Image.Image]

WAYS: dict[str, dict[str, Any]] = {
    "every pixel a class": {},
    "refined by PAMR": {"refine": True},
    "with background": {"background": True},
    "background, PAMR": {"background": True, "refine": True},
}
"""Options of `Segmenter.segment` by title."""


def attention(window: ImageEncoding) -> Panels:
    """Attention of the last block's CLS token, on average and for each head (Fig. 8 and 9)."""
    logits = window.cls_attention[0]
    maps = {"average of the logits": attention_maps(logits.mean(axis=0))}
    maps |= {f"head {head}": one for head, one in enumerate(attention_maps(logits))}
    return _image(window.resized) | {name: _heat(window.resized, one) for name, one in maps.items()}


def heads(window: ImageEncoding, texts: ClassEmbeddings) -> Panels:
    """The head that each text chooses, and its attention (Fig. 7)."""
    maps = attention_maps(window.cls_attention[0])
    panels = _image(window.resized)
    for name, cosines in zip(texts.names, head_cosines(window, texts.vectors), strict=True):
        head = int(cosines.argmax())
        panels[f"{name}: head {head}, {cosines[head]:.2f}"] = _heat(window.resized, maps[head])
    return panels


def cleaning(segmenter: Segmenter, encoding: ImageEncoding, classes: ClassEmbeddings) -> Panels:
    """Labels with background, without and with cleaning, and the changed pixels in black (Fig. 10)."""
    off, on = (segmenter.segment(encoding, classes, background=True, cleaning=on) for on in (False, True))
    changed = off.label_map != on.label_map
    where = Image.fromarray(np.where(changed, 0, encoding.image.mean(axis=2) / 2 + 127).astype(np.uint8))
    panels = {"cleaning off": off.overlay(), "cleaning on": on.overlay(), f"changed: {changed.mean():.1%}": where}
    return _image(encoding.image) | panels


def overlays(segmenter: Segmenter, encoding: ImageEncoding, classes: ClassEmbeddings) -> Panels:
    """Labels with and without background and PAMR (Fig. 11)."""
    found = {name: segmenter.segment(encoding, classes, **options).overlay() for name, options in WAYS.items()}
    return _image(encoding.image) | found


def head_cosines(window: ImageEncoding, text_embeds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines (N,M) of L2-normalised texts (N,D) with the embedding of each head of a window.

    Training chooses the head with the largest cosine (Talk2DINO, Eq. 3-4).
    """
    tokens = window.patch_tokens[0]
    maps = attention_maps(window.cls_attention[0])
    embeds = maps.reshape(len(maps), -1) @ tokens.reshape(-1, tokens.shape[-1])
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    cosines: NDArray[np.float32] = text_embeds @ embeds.T
    return cosines


def attention_maps(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (...,h,w) to their softmax over the patches."""
    maps: NDArray[np.float32] = np.exp(logits - logits.max(axis=(-2, -1), keepdims=True))
    maps /= maps.sum(axis=(-2, -1), keepdims=True)
    return maps


def _image(pixels: NDArray[np.uint8]) -> Panels:
    return {"image": Image.fromarray(pixels)}


def _heat(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """A map (h,w) of patches over the image in pale grey, scaled by its largest value."""
    share = heat / heat.max()
    colours = (255 * np.asarray(colormaps["viridis_r"](share))).astype(np.uint8)
    colours[..., 3] = 230 * np.sqrt(share)  # patches without attention stay transparent
    pale = Image.fromarray((255 - (255 - image.mean(axis=2)) / 2).astype(np.uint8)).convert("RGBA")
    pale.alpha_composite(Image.fromarray(colours).resize(pale.size, Image.Resampling.NEAREST))
    return pale.convert("RGB")
