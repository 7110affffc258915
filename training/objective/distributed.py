"""Several processes that train as one on the same global batch.

Every process projects its share, gathers all shares and computes the whole loss. In the gathered matrix only its own
rows keep their graph, so that its backward pass gives exactly its share of the gradient of the whole loss. The sum over
processes is the gradient that one process would have.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.features.batches import share_size


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Gives rank and number of processes. Under torchrun with several, it opens their gloo group for the block."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield 0, 1
        return
    dist.init_process_group("gloo")
    try:
        yield dist.get_rank(), world_size
    finally:
        dist.destroy_process_group()


def gather_rows(local: Tensor, total: int, world_size: int) -> Tensor:
    """All processes' rows of a batch of `total`, (total, ...), in the order of the ranks.

    `local` is this process's part, as cut by `share_of`. Gradients reach this part only.
    """
    if world_size == 1:
        return local
    share = share_size(total, world_size)
    padded = torch.zeros((share, *local.shape[1:]), dtype=local.dtype, device=local.device)
    padded[: len(local)] = local.detach()
    parts = [torch.empty_like(padded) for _ in range(world_size)]
    dist.all_gather(parts, padded)
    sizes = [max(0, min(share, total - rank * share)) for rank in range(world_size)]
    kept = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    kept[dist.get_rank()] = local
    return torch.cat(kept)


def first_said(text: str | None, world_size: int) -> str | None:
    """The text of the first process that has one, in all processes. Every process must call this."""
    if world_size == 1:
        return text
    said: list[str | None] = [None] * world_size
    dist.all_gather_object(said, text)
    return next((one for one in said if one is not None), None)


def sum_gradients(parameters: Iterable[nn.Parameter], world_size: int) -> None:
    """Replace every gradient by its sum over the processes."""
    if world_size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, summed in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
