"""Batches of captions with the features of their images, read ahead from memory-mapped shards.

Rows are copied into a few buffers that are used in turn, since page faults in a new array of 5 MB for each batch would
cost more than the copy itself. A thread fills the next buffers while a step computes; copying releases the
interpreter's lock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.config import ProjectionKind, Selection, TextInput, TokenArray
from training.features.feature_set import FeatureSet, FloatArray, IndexArray

AHEAD = 2
"""Batches read ahead while one is used."""


class Batch(NamedTuple):
    """Features of B captions and their images. It is valid until the next but one is requested.

    visual (B,M,D) or (B,D); text (B,C), or with `lengths` (B,L,·) padded with zeros; lengths (B,) int64, tokens of each
    text with start and end; captions (B,) int64, indices of the captions in the feature set; finite, True where every
    feature is a finite number.
    """

    visual: Tensor
    text: Tensor
    lengths: Tensor | None
    captions: IndexArray
    finite: bool = True

    def token_mask(self) -> Tensor | None:
        """(B, L), true for every token with start and end, or None for one vector a text."""
        if self.lengths is None:
            return None
        return torch.arange(self.text.shape[1], device=self.text.device) < self.lengths[:, None]


@dataclass(frozen=True)
class FeatureChoice:
    """The arrays of a feature set that a run reads."""

    visual: str
    text: str
    token_array: TokenArray | None

    @classmethod
    def of(cls, selection: Selection, projection: ProjectionKind, text_input: TextInput) -> FeatureChoice:
        """The arrays that a configuration reads."""
        visual = selection if selection in ("average", "cls") else "heads"
        if projection == "last_block":
            return cls(visual, "penultimate", "penultimate")
        if text_input == "tokens":
            return cls(visual, "tokens", "tokens")
        return cls(visual, "text_average" if text_input == "average" else "text", None)

    def require_in(self, features: FeatureSet) -> None:
        """Raise DataError unless a feature set has these arrays."""
        for array in (self.visual, self.text):
            features.require(array)


class BatchReader:
    """Reads batches of a feature set, in the file's order or in a given order.

    With several processes (`world_size`), each reads its share of every batch.
    """

    def __init__(
        self, features: FeatureSet, choice: FeatureChoice, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        choice.require_in(features)
        self.features = features
        self.choice = choice
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.wait_s = 0.0
        """Seconds that steps waited for data."""
        share = share_size(min(batch_size, len(features)), world_size)
        self._visual = [self._buffer(choice.visual, share) for _ in range(AHEAD + 2)]
        self._text = [] if choice.token_array else [self._buffer(choice.text, share) for _ in range(AHEAD + 2)]

    def __len__(self) -> int:
        return -(-len(self.features) // self.batch_size)

    def epoch(self, order: IndexArray | None = None) -> Iterator[Batch]:
        """Batches of all captions, each caption once, in `order`. The last batch may be smaller."""
        order = np.arange(len(self.features)) if order is None else order
        chunks = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
            pending: deque[Future[Batch]] = deque()
            for number in range(len(chunks) + AHEAD):
                if number < len(chunks):
                    pending.append(pool.submit(self._read, chunks[number], number % len(self._visual)))
                if number >= AHEAD:
                    start = time.perf_counter()
                    batch = pending.popleft().result()
                    self.wait_s += time.perf_counter() - start
                    yield batch

    def _buffer(self, array: str, rows: int) -> FloatArray:
        shape = self.features.shards[0].arrays[array].shape[1:]
        return np.zeros((rows, *shape), dtype=np.float32)

    def _read(self, captions: IndexArray, slot: int) -> Batch:
        mine = share_of(captions, self.rank, self.world_size)
        images = self._gather(self.choice.visual, mine, self.features.image_row, self._visual[slot])
        if self.choice.token_array:
            text, lengths = self._gather_tokens(self.choice.token_array, captions, mine)
        else:
            text, lengths = self._gather(self.choice.text, mine, self.features.caption_row, self._text[slot]), None
        finite = all(bool(np.isfinite(values.numpy()).all()) for values in (images, text))
        return Batch(images, text, lengths, mine, finite)

    def _gather(self, array: str, captions: IndexArray, rows: IndexArray, buffer: FloatArray) -> Tensor:
        shards = [shard.arrays[array] for shard in self.features.shards]
        places = zip(self.features.caption_shard[captions].tolist(), rows[captions].tolist(), strict=True)
        for position, (shard, row) in enumerate(places):
            buffer[position] = shards[shard][row]
        return torch.from_numpy(buffer[: len(captions)])

    def _gather_tokens(self, array: TokenArray, captions: IndexArray, mine: IndexArray) -> tuple[Tensor, Tensor]:
        """Token rows padded to the longest text of the whole batch, including the shares of other processes."""
        longest = max(stop - start for start, stop in map(self._token_range, captions.tolist()))
        width = self.features.shards[0].arrays[array].shape[1]
        text = np.zeros((len(mine), longest, width), dtype=np.float32)
        lengths = np.zeros(len(mine), dtype=np.int64)
        for position, caption in enumerate(mine.tolist()):
            start, stop = self._token_range(caption)
            lengths[position] = stop - start
            text[position, : stop - start] = self.features.shards[self.features.caption_shard[caption]].arrays[array][
                start:stop
            ]
        return torch.from_numpy(text), torch.from_numpy(lengths)

    def _token_range(self, caption: int) -> tuple[int, int]:
        offsets = self.features.shards[self.features.caption_shard[caption]].arrays["token_offsets"]
        row = self.features.caption_row[caption]
        return int(offsets[row]), int(offsets[row + 1])


def share_of(captions: IndexArray, rank: int, world_size: int) -> IndexArray:
    """A process's part of a batch. Parts are consecutive and of one size, except for the last ones."""
    share = share_size(len(captions), world_size)
    return captions[rank * share : (rank + 1) * share]


def share_size(batch: int, world_size: int) -> int:
    """Rows of the largest part of a batch."""
    return -(-batch // world_size)


def shuffled(count: int, seed: int, epoch: int) -> IndexArray:
    """The order of an epoch. It depends only on seed and epoch, so that an epoch can be repeated."""
    return np.random.default_rng([seed, epoch]).permutation(count)
