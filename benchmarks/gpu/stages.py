"""The stages of the benchmark, in the order of what is worth knowing first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.found import GPU_BACKENDS, Found
from t2d_runtime.bundle.files import IMAGE_ENCODER, SEGMENTER, Bundle

BATCHES = (1, 4, 16, 64)
TORCH_KINDS = ("fp32", "fp16", "fp32 compiled", "fp16 compiled")
"""PyTorch eager in float32 and in half precision; compiled ones replay CUDA graphs."""

BUILT = ("tensorrt", "tensorrt-rtx")
SLOW = 6.0
"""Weight of a stage that compiles or builds: its share of the time, against 1."""

PROOF, LATENCY, GRAPH, IMAGE, MASKS = "self-test", "latency", "latency, CUDA graph", "image to labels", "masks"


@dataclass(frozen=True)
class Stage:
    """One row of the results: a task of `child`, run in a process of its own."""

    subject: str
    """Such as "onnxruntime-cuda" or "PyTorch"."""
    precision: str
    what: str
    task: str
    arguments: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    after: str | None = None
    """Name of a stage that must have succeeded."""

    @property
    def name(self) -> str:
        """Its key among all stages."""
        return f"{self.subject} {self.precision}: {self.what}"


def stages_of(found: Found, bundle: Bundle, folder: Path) -> list[Stage]:
    """Stages for what a machine has; `folder` is the bundle's, which takes the engines that are built."""
    precisions = bundle.graph_precisions(IMAGE_ENCODER)
    backends = [name for name in GPU_BACKENDS if name not in found.absent]
    ready, built = [b for b in backends if b not in BUILT], [b for b in backends if b in BUILT]
    masks = [Stage("GPU", "fp32", MASKS, "masks", {"bundle": str(folder)})]
    torch = list(_torch(bundle)) if "pytorch" not in found.absent else []
    stages = [*masks]
    for precision in (*precisions[:2], None, *precisions[2:]):
        if precision is None:
            stages += torch[:4]
            continue
        for backend in ready:
            stages += _engine(backend, precision, str(folder))
    for backend in built:
        for precision in precisions:
            build = Stage(
                backend,
                precision,
                "build",
                "build",
                {
                    "bundle": str(folder),
                    "backend": backend,
                    "precision": precision,
                    "capability": found.capability,
                    "max_batch": max(BATCHES),
                },
                SLOW,
            )
            stages += [build, *_engine(backend, precision, str(folder), build.name)]
    if SEGMENTER in bundle.manifest.files:
        opening = {"bundle": str(folder), "precision": "fp32"}
        stages += [Stage(b, "fp32", "fused graph", "fused", {**opening, "backend": b}) for b in ready]
    return [*stages, *torch[4:]]


def _engine(backend: str, precision: str, bundle: str, after: str | None = None) -> Iterator[Stage]:
    opening = {"bundle": bundle, "backend": backend, "precision": precision}
    timed = {**opening, "batches": list(BATCHES)}
    yield Stage(backend, precision, PROOF, "selftest", opening, after=after)
    yield Stage(backend, precision, LATENCY, "latency", timed, after=after)
    if backend == "onnxruntime-cuda":
        yield Stage(backend, precision, GRAPH, "latency", {**timed, "cuda_graph": True}, after=after)
    yield Stage(backend, precision, IMAGE, "image", opening, after=after)


def _torch(bundle: Bundle) -> Iterator[Stage]:
    model = bundle.manifest.model
    made = {"backbone": model.backbone, "size": list(model.input_size), "batches": list(BATCHES)}
    for what, task in ((LATENCY, "torch_latency"), (IMAGE, "torch_image")):
        for kind in TORCH_KINDS:
            arguments = {**made, "kind": kind, "bundle": str(bundle.folder)}
            yield Stage("PyTorch", kind, what, task, arguments, SLOW if "compiled" in kind else 1.0)
