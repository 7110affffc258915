"""Lower limit of the image encoder's time: its matrix products alone, at this machine's best rate."""

from __future__ import annotations

from typing import NamedTuple

import torch

from benchmarks.timing import in_turn
from t2d_export.model.reference import Reference

SIDE = 1024
"""Side of the square matrices: large enough for the full rate, small enough for a core's cache."""

ROUNDS = 15

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Roofline(NamedTuple):
    """Work of the encoder, and rates of the machine."""

    encoder_flop: int
    """Operations for one window: two for each multiply-add of linear layers, convolution and attention."""
    flop_per_second: dict[str, float]
    """Precision -> best rate of a matrix product."""

    def floor_ms(self, precision: str) -> float:
        """Time of one window if all its work were matrix products at the best rate."""
        return 1e3 * self.encoder_flop / self.flop_per_second[precision]


def measure_roofline(reference: Reference) -> Roofline:
    """Measure the rates of PyTorch's matrix products with its number of threads: the best of some rounds."""
    calls = {}
    for name, dtype in DTYPES.items():
        a, b = (torch.rand(SIDE, SIDE).to(dtype) for _ in range(2))
        calls[name] = lambda a=a, b=b: a @ b
    timings = in_turn(calls, ROUNDS)
    rates = {name: 2e3 * SIDE**3 / min(timing.rounds_ms) for name, timing in timings.items()}
    return Roofline(encoder_flop(reference), rates)


def encoder_flop(reference: Reference) -> int:
    """Floating-point operations of one window's patches, linear layers and attention products."""
    backbone = reference.backbone
    patches = backbone.grid_size[0] * backbone.grid_size[1]
    tokens = patches + backbone.num_prefix_tokens
    blocks = backbone.vit.blocks
    linear = sum(layer.weight.numel() for layer in blocks.modules() if isinstance(layer, torch.nn.Linear))
    # The products of q and k, and with v: two multiply-adds for each pair of tokens and each of D channels.
    attention = 2 * tokens**2 * backbone.embed_dim * len(blocks)
    embedding = patches * backbone.vit.patch_embed.proj.weight.numel()
    return 2 * int(tokens * linear + attention + embedding)
