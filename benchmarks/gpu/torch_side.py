"""PyTorch on the GPU: the same backbone with random weights, eager and compiled, and the reference's masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.child import CLASSES, ROUNDS, fitting_rounds, median_ms, over_batches, picture
from benchmarks.timing import cuda_in_turn
from t2d_export.architectures import folder_model
from t2d_export.architectures.backbones import named_architecture
from t2d_export.architectures.folder_model import read_config
from t2d_export.model.loading import load_backbone
from t2d_export.model.reference_masks import clean, cosine_similarity, pamr, upsample, with_background
from t2d_export.model.towers import Backbone
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.errors import BackendUnavailableError
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.windows import cut_windows, resized_size, size_of, window_boxes

Figures = Iterator[dict[str, Any]]
DEVICE = "cuda"


def torch_latency(backbone: str, size: list[int], kind: str, batches: list[int], bundle: str) -> Figures:
    """The image encoder by CUDA events over batches."""
    before = free_bytes()
    model, dtype = contender(backbone, size, kind)

    def time_batch(batch: int) -> list[float]:
        values = torch.randn(batch, 3, *size, device=DEVICE, dtype=dtype)
        call = lambda: model(values)  # noqa: E731
        first = cuda_in_turn({"": call}, 1)[""].median_ms
        return list(cuda_in_turn({"": call}, min(ROUNDS, fitting_rounds(first)), warm_up=0)[""].rounds_ms)

    with torch.inference_mode():
        yield from over_batches(batches, time_batch, lambda: before - free_bytes())


def torch_image(backbone: str, size: list[int], kind: str, batches: list[int], bundle: str) -> Figures:
    """A picture to its labels with cleaning and PAMR, everything after the resize on the GPU, windows as one batch."""
    opened, before = Bundle.open(bundle), free_bytes()
    manifest = opened.manifest
    model, dtype = contender(backbone, size, kind)
    pixels = picture(opened)
    width, heads = manifest.model.embed_dim, np.random.default_rng(0)
    vectors = heads.normal(0, 1, (CLASSES, width)).astype(np.float32)
    texts = torch.nn.functional.normalize(torch.from_numpy(vectors).to(DEVICE), dim=-1)
    mean, std = (
        torch.tensor(values, device=DEVICE)[:, None, None]
        for values in (manifest.preprocessing.mean, manifest.preprocessing.std)
    )

    @torch.inference_mode()
    def labels() -> torch.Tensor:
        resized = resize(pixels, resized_size(size_of(pixels), manifest.windows))
        boxes = window_boxes(size_of(resized), manifest.windows)
        windows = torch.from_numpy(cut_windows(resized, boxes).transpose(0, 3, 1, 2).copy()).to(DEVICE)
        crop = (windows.shape[2], windows.shape[3])
        values = windows.float()
        if crop != tuple(size):
            values = torch.nn.functional.interpolate(values, tuple(size), mode="bilinear", antialias=True)
        tokens, attention, _ = (part.float() for part in model(((values / 255 - mean) / std).to(dtype)))
        total = torch.zeros(CLASSES, *size_of(resized), device=DEVICE)
        count = torch.zeros(size_of(resized), device=DEVICE)
        for index, box in enumerate(boxes):
            scores = clean(
                cosine_similarity(tokens[index], texts), tokens[index], attention[index], texts, cleaning="official"
            )
            planes = upsample(scores.reshape(CLASSES, *manifest.model.grid_size), crop, align_corners=True)
            total[(slice(None), *box.region)] += pamr(windows[index], planes)
            count[box.region] += 1
        planes = upsample(total / count, size_of(pixels), align_corners=False)
        return with_background(planes, manifest.defaults.threshold).argmax(dim=0).cpu()

    yield {"device_ms": median_ms(labels), "memory_bytes": before - free_bytes()}


def free_bytes() -> int:
    """Memory of the GPU that nobody has taken, as `on_device.free_bytes` counts it; 0 on the processor."""
    if DEVICE != "cuda":
        return 0
    check_gpu()
    return int(torch.cuda.mem_get_info()[0])


def check_gpu() -> None:
    """Raise BackendUnavailableError where PyTorch sees no GPU."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError(f"PyTorch {torch.__version__} sees no GPU; install one that was built for CUDA")


def contender(backbone: str, size: list[int], kind: str) -> tuple[Callable[[torch.Tensor], Any], torch.dtype]:
    """The model on the GPU and its type; float32 without TF32, as the engines compute it. Raises as `check_gpu`."""
    check_gpu()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    precision, _, compiled = kind.partition(" ")
    dtype = torch.float16 if precision == "fp16" else torch.float32
    model: Any = random_backbone(backbone, size).to(DEVICE, dtype)
    return (torch.compile(model, mode="reduce-overhead", dynamic=False) if compiled else model), dtype


def random_backbone(backbone: str, size: list[int]) -> Backbone:
    """A backbone with random weights, by its name or by the folder that describes it."""
    folder = Path(backbone)
    if (folder / folder_model.CONFIG).is_file():
        architecture = read_config(folder).backbone(folder.name)
    else:
        architecture = named_architecture(backbone)
    return load_backbone(architecture, "random", (size[0], size[1]))[0]
