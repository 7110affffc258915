"""Lower limit of the image encoder's time: its matrix products alone, at this machine's best rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.timing import in_turn
from t2d_export.model.reference import Reference
from t2d_runtime.backends.openvino_module import openvino_module

SIDE = 1024
"""Side of the square matrices: large enough for the full rate, small enough for a core's cache."""

ROUNDS = 15

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

HINTS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names of them."""


class Roofline(NamedTuple):
    """Work of the encoder, and rates of the machine."""

    encoder_flop: int
    """Operations for one window: two for each multiply-add of linear layers, convolution and attention."""
    flop_per_second: dict[str, float]
    """Precision -> best rate of a matrix product."""
    libraries: dict[str, str]
    """Precision -> the library that reached it."""

    def floor_ms(self, precision: str) -> float | None:
        """Time of one window if all its work were matrix products at the best rate; None without units for them."""
        rate = self.flop_per_second.get(precision)
        return None if rate is None else 1e3 * self.encoder_flop / rate


class MatrixProduct(NamedTuple):
    """One product of two matrices."""

    library: str
    precision: str
    compute: Callable[[], object]


def measure_roofline(reference: Reference) -> Roofline:
    """Measure the rates of matrix products: the best library, with its own number of threads, in the best round.

    One library after the other: PyTorch's threads go on spinning for milliseconds after a product, and would take half
    of the next library's cores.
    """
    rates: dict[str, float] = {}
    libraries: dict[str, str] = {}
    for product in matrix_products():
        (timing,) = in_turn({product.library: product.compute}, ROUNDS).values()
        rate = 2e3 * SIDE**3 / min(timing.rounds_ms)
        if rate > rates.get(product.precision, 0):
            rates[product.precision], libraries[product.precision] = rate, product.library
    return Roofline(encoder_flop(reference), rates, libraries)


def matrix_products() -> list[MatrixProduct]:
    """Products of two square matrices by each library, in each precision that the processor has units for.

    No library is the fastest on every processor: PyTorch's takes other paths on AMD's than on Intel's.
    """
    core = openvino_module().Core()
    native = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    products = []
    for name, dtype in DTYPES.items():
        if name == "fp32" or name.upper() in native:
            a, b = (torch.rand(SIDE, SIDE).to(dtype) for _ in range(2))
            products.append(MatrixProduct("PyTorch", name, partial(torch.matmul, a, b)))
            products.append(MatrixProduct("OpenVINO", name, _openvino_product(HINTS[name])))
    return products


def _openvino_product(hint: str) -> Callable[[], object]:
    """A product with a constant matrix, which OpenVINO lays out as it does an encoder's weights."""
    openvino = openvino_module()
    ops = openvino.opset13
    weights = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    rows = ops.parameter([SIDE, SIDE], np.float32)
    model = openvino.Model([ops.matmul(rows, ops.constant(weights), False, True)], [rows])
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    compiled = openvino.compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(weights, shared_memory=True))
    compute: Callable[[], object] = request.infer
    return compute


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
