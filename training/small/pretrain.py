"""Pre-training of the small model's two towers, from scratch, on drawn scenes.

It uses the generator's regions (the pixels of each object), but not its label maps. Names come only from captions: a
lexicon finds the nouns in them (`training.small.losses`). Most steps see a part of the patches, at a third of the cost;
the last ones see all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from t2d_export.architectures.folder_model import FolderConfig
from t2d_export.model.projection import TextProjection
from t2d_export.model.towers import TextTower
from t2d_runtime.errors import NotFiniteError
from training.drawing.concepts import CONCEPT_LIST
from training.drawing.scenes import Scene
from training.objective.losses import TEMPERATURE
from training.small.losses import attention_loss, caption_loss, word_loss
from training.small.model import TrainableBackbone, new_text_tower
from training.small.settings import PretrainSettings

MAX_REGIONS: Final = 20
WORKERS: Final = 2
"""Threads that share every batch. The number is fixed, so that the result does not depend on the machine."""

WORD: Final = re.compile(r"[a-z]+")
SYNONYMS: Final = tuple(tuple(dict.fromkeys(concept.words)) for concept in CONCEPT_LIST)
NOUNS: Final = {word: index for index, words in enumerate(SYNONYMS) for word in words}
"""Lexicon of nouns in captions, with synonyms as one entry. It replaces a part-of-speech tagger."""

PROMPTS: Final = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
    "itap of a {}.",
    "a bad photo of a {}.",
    "a origami {}.",
    "a {} in a video game.",
    "art of the {}.",
    "there is a {} in the scene.",
    "a picture of a {}.",
    "a drawing of the {}.",
    "a scene with a {}.",
)
"""Prompts for nouns found in captions, most of them from CLIP's own prompts."""


@dataclass(frozen=True)
class PretrainData:
    """The data of scenes that pre-training sees.

    images (N,S,S,3) uint8; shares (N,P,MAX_REGIONS) uint8, the percentage of a patch that each region covers; the
    captions; mentions (N,C) bool, the nouns in an image's captions.
    """

    images: Tensor
    shares: Tensor
    captions: list[tuple[str, ...]]
    mentions: Tensor


class Batch(NamedTuple):
    """A part of a batch: normalised pixels (B,3,S,S); patches to keep (B,K) or None; shares (B,K,R); mentions (B,C);
    token ids (C+B,L) of a prompt for every noun and of a caption for every image; false_negative (B,B).
    """

    pixels: Tensor
    keep: Tensor | None
    shares: Tensor
    mentions: Tensor
    ids: Tensor
    false_negative: Tensor


def mentioned_nouns(captions: Sequence[str]) -> list[int]:
    """The nouns of the lexicon in captions, as sorted concept indices."""
    words = {word for caption in captions for word in WORD.findall(caption.lower())}
    return sorted({NOUNS[word] for word in words & NOUNS.keys()})


def region_shares(regions: NDArray[np.uint8], patch: int) -> Tensor:
    """Percentage of every patch (P) that each region covers, (P,MAX_REGIONS) uint8, from a region map (S,S)."""
    grid = regions.shape[0] // patch
    cells = regions.reshape(grid, patch, grid, patch).transpose(0, 2, 1, 3).reshape(grid * grid, -1)
    counts = np.stack([(cells == region).sum(axis=1) for region in range(MAX_REGIONS)], axis=1)
    return torch.from_numpy(np.rint(100 * counts / (patch * patch)).astype(np.uint8))


def collect(scenes: Iterable[Scene], patch: int) -> PretrainData:
    """Collect the data of scenes that pre-training may see."""
    images, shares, captions, mentions = [], [], [], []
    for scene in scenes:
        images.append(torch.from_numpy(scene.image))
        shares.append(region_shares(scene.regions, patch))
        captions.append(scene.captions)
        mentions.append(_as_mask(scene.captions))
    return PretrainData(torch.stack(images), torch.stack(shares), captions, torch.stack(mentions))


def _as_mask(captions: Sequence[str]) -> Tensor:
    mask = torch.zeros(len(CONCEPT_LIST), dtype=torch.bool)
    mask[mentioned_nouns(captions)] = True
    return mask


class Batches:
    """Draws batches: shuffled epochs, mirrored images, changed light, patches left out, a caption for every image."""

    def __init__(self, data: PretrainData, config: FolderConfig, settings: PretrainSettings, seed: int) -> None:
        self.data = data
        self.settings = settings
        self.mean = torch.tensor(config.mean).view(3, 1, 1)
        self.std = torch.tensor(config.std).view(3, 1, 1)
        self.grid = config.image_size // config.patch_size
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.tokenizer = SimpleTokenizer()
        self.order: list[int] = []

    def draw(self, *, full: bool) -> list[Batch]:
        """The parts of the next batch, one for each worker."""
        size = self.settings.batch_size // WORKERS
        return [self._part([self._next() for _ in range(size)], full=full) for _ in range(WORKERS)]

    def _next(self) -> int:
        if not self.order:
            self.order = self.random.permutation(len(self.data.images)).tolist()
        return self.order.pop()

    def _part(self, index: list[int], *, full: bool) -> Batch:
        size, patches = len(index), self.grid**2
        pixels = self.data.images[index].permute(0, 3, 1, 2).float() / 255
        shares = self.data.shares[index].float()
        if self.random.random() < 0.5:
            pixels = pixels.flip(3)
            shares = shares.view(size, self.grid, self.grid, -1).flip(2).reshape(size, patches, -1)
        gain = 0.9 + 0.2 * torch.rand(size, 3, 1, 1, generator=self.generator)
        light = 0.2 * torch.rand(size, 1, 1, 1, generator=self.generator) - 0.1
        pixels = ((pixels * gain + light).clamp(0, 1) - self.mean) / self.std
        keep = None
        if not full:
            keep = torch.rand(size, patches, generator=self.generator).argsort(1)[:, : self.settings.kept_patches]
            shares = shares.gather(1, keep[:, :, None].expand(-1, -1, shares.shape[2]))
        captions = [self._one_of(self.data.captions[number]) for number in index]
        mentions = self.data.mentions[index]
        named = torch.stack([_as_mask([caption]) for caption in captions])
        false_negative = (named.float() @ (~mentions).float().t()) == 0
        false_negative.fill_diagonal_(False)
        prompts = [self._one_of(PROMPTS).format(self._one_of(words)) for words in SYNONYMS]
        shares = shares / shares.sum(dim=2, keepdim=True)
        return Batch(pixels, keep, shares, mentions, self._tokens([*prompts, *captions]), false_negative)

    def _one_of(self, choices: Sequence[str]) -> str:
        return choices[int(self.random.integers(len(choices)))]

    def _tokens(self, texts: list[str]) -> Tensor:
        ids: Tensor = self.tokenizer(texts)
        return ids[:, : int(ids.argmax(dim=1).max()) + 1]


class Pretraining(nn.Module):
    """Both towers with a text projection of their own, which is dropped after pre-training."""

    def __init__(self, config: FolderConfig, settings: PretrainSettings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = TrainableBackbone(config)
        self.text = new_text_tower(config.text)
        self.projection = TextProjection(config.text.embed_dim, config.embed_dim)

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one part of a batch."""
        nouns = batch.mentions.shape[1]
        with torch.autocast("cpu", torch.bfloat16):
            features = self.backbone(batch.pixels, batch.keep)
        features = type(features)(*(value.float() for value in features))
        texts = functional.normalize(self.projection.project_text(self.text(batch.ids)), dim=1)
        words, captions = texts[:nouns], texts[nouns:]
        patches = functional.normalize(features.patch_tokens, dim=2)
        regions = functional.normalize(batch.shares.transpose(1, 2) @ patches, dim=2)
        loss, taken_for = word_loss(
            patches @ words.t() / TEMPERATURE,
            regions @ words.t() / TEMPERATURE,
            batch.shares,
            batch.shares.sum(dim=1) > 0.5,  # half a patch
            batch.mentions,
        )
        looking = attention_loss(features.cls_attention, taken_for, batch.mentions)
        whole = caption_loss(features, captions, batch.false_negative)
        return loss + self.settings.attention_weight * looking + self.settings.caption_weight * whole


def pretrain(
    config: FolderConfig, settings: PretrainSettings, data: PretrainData, seed: int
) -> tuple[TrainableBackbone, TextTower]:
    """Train both towers; returns them in eval mode. Embeddings of text tokens that never occurred are zero.

    Raises NotFiniteError at the first loss or gradient that is not finite.
    """
    torch.manual_seed(seed)
    model = Pretraining(config, settings)
    parameters = list(model.parameters())
    optimizer = _optimizer(model, settings)
    batches = Batches(data, config, settings, seed)
    seen = torch.zeros(model.text.transformer.vocab_size, dtype=torch.bool)
    bar = tqdm(range(settings.steps), desc="pre-training", unit="step", mininterval=1.0, disable=None)
    with ThreadPoolExecutor(WORKERS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
            parts = batches.draw(full=step >= settings.steps * (1 - settings.full_share))
            for part in parts:
                seen[part.ids] = True
            results = list(pool.map(lambda part: _gradients(model, parameters, part), parts))
            for number, parameter in enumerate(parameters):
                parameter.grad = sum((gradients[number] for _, gradients in results), torch.zeros(())) / WORKERS
            loss = sum(loss for loss, _ in results) / WORKERS
            length = float(nn.utils.clip_grad_norm_(parameters, 1.0))
            if not (math.isfinite(loss) and math.isfinite(length)):
                raise NotFiniteError(f"pre-training, step {step + 1}: loss {loss}, length of the gradient {length}")
            optimizer.step()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    with torch.no_grad():
        model.text.transformer.token_embedding.weight[~seen] = 0
    return model.backbone.eval(), model.text.eval()


def _gradients(model: Pretraining, parameters: list[nn.Parameter], part: Batch) -> tuple[float, tuple[Tensor, ...]]:
    loss = model(part)
    return loss.item(), torch.autograd.grad(loss, parameters, materialize_grads=True)


def _optimizer(model: Pretraining, settings: PretrainSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices, but not on the token table, of which a batch uses few rows."""
    table = model.text.transformer.token_embedding.weight
    decayed = [weight for weight in model.parameters() if weight.ndim >= 2 and weight is not table]
    others = [weight for weight in model.parameters() if weight.ndim < 2 or weight is table]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))


def learning_rate(settings: PretrainSettings, step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
