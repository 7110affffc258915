"""Rows of the image encoder: each precision against PyTorch's float32, eager, and bfloat16, compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.contenders.baselines import TorchPipeline, plain_pamr
from benchmarks.contenders.roofline import measure_roofline
from benchmarks.pipeline.rows import Row, faster, fastest
from benchmarks.pipeline.setup import CPU_BACKENDS, Setup
from t2d_runtime.device.cpu import cpu
from t2d_runtime.image.preprocess import to_pixel_values

TORCH = "PyTorch fp32"
COMPILED = "PyTorch bf16, compiled"


def fp32_rows(setup: Setup) -> list[Row]:
    """Both engines in float32."""
    contenders = {TORCH: _torch(setup)} | {name: _runtime(setup, name, "fp32") for name in CPU_BACKENDS}
    timings = setup.time(contenders)
    best = fastest(timings, list(CPU_BACKENDS))
    return [faster("image encoder, fp32", timings, TORCH, best, bar=1.15, note=f"by {best}")]


def bf16_rows(setup: Setup) -> list[Row]:
    """OpenVINO in bfloat16; the bars are for a CPU with AMX."""
    refusal = setup.refusal("openvino", "bf16")
    if refusal is not None:
        return [Row("image encoder, bf16", None, "x", 3.5, 4.5, note=refusal)]
    contenders = {TORCH: _torch(setup), COMPILED: _compiled(setup), "bf16": _runtime(setup, "openvino", "bf16")}
    timings = setup.time(contenders)
    note = "" if "amx_bf16" in cpu().units else f"the bars are for AMX; here: {' '.join(cpu().units)}"
    return [
        faster("image encoder, bf16 over PyTorch fp32", timings, TORCH, "bf16", bar=3.5, aim=4.5, note=note),
        faster("image encoder, bf16 over PyTorch bf16 compiled", timings, COMPILED, "bf16", bar=1.05, aim=1.25),
    ]


def int8_rows(setup: Setup) -> list[Row]:
    """Both engines in int8, having passed its gates."""
    bars = {"openvino": (4.2, 5.5), "onnxruntime": (1.9, None)}
    refusals = {name: setup.refusal(name, "int8") for name in bars}
    runs = [name for name, refusal in refusals.items() if refusal is None]
    timings = setup.time({TORCH: _torch(setup)} | {name: _runtime(setup, name, "int8") for name in runs})
    note = "" if "amx_int8" in cpu().units else f"no AMX here: {' '.join(cpu().units)}"
    rows = []
    for name, (bar, aim) in bars.items():
        what = f"image encoder, int8 by {name}"
        if name in runs:
            rows.append(faster(what, timings, TORCH, name, bar=bar, aim=aim, note=note))
        else:
            rows.append(Row(what, None, "x", bar, aim, note=refusals[name] or ""))
    return rows


def product_rows(setup: Setup) -> list[Row]:
    """What matrix products alone reach here, and so the floor under the rows above."""
    roofline = measure_roofline(setup.reference)
    return [
        Row(
            f"matrix products in {name}",
            rate / 1e12,
            "TFLOP/s",
            note=f"encoder {roofline.floor_ms(name):.0f} ms or more",
        )
        for name, rate in roofline.flop_per_second.items()
    ]


def _torch(setup: Setup) -> Callable[[], object]:
    return partial(TorchPipeline(setup.reference, plain_pamr).encode, setup.window)


def _runtime(setup: Setup, backend: str, precision: str) -> Callable[[], object]:
    return partial(setup.segmenter(backend, precision).encoders.run_image_encoder, setup.window[np.newaxis])


def _compiled(setup: Setup) -> Callable[[], Tensor]:
    """The backbone by torch.compile under autocast to bfloat16."""
    manifest = setup.segmenter().manifest
    compiled = torch.compile(setup.reference.backbone)

    @torch.inference_mode()
    def encode() -> Tensor:
        values = to_pixel_values(setup.window[np.newaxis], manifest.model.input_size, manifest.preprocessing)
        with torch.autocast("cpu", torch.bfloat16):
            tokens: Tensor = compiled(torch.from_numpy(values)).patch_tokens
        return tokens

    return encode
