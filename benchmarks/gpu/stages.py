"""The stages of the benchmark, in the order of what is worth knowing first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.found import GPU_BACKENDS, Found
from t2d_runtime.bundle.files import IMAGE_ENCODER, SEGMENTER, Bundle

BATCHES = (1, 4, 16, 64)
TORCH_KINDS = ("fp16", "fp32", "fp16 compiled", "fp32 compiled")
"""PyTorch eager in float32 and in half precision; compiled ones replay CUDA graphs."""

COMPILED_BATCHES = (1, 16)
"""Batches of the compiled ones, each of which PyTorch compiles for most of a minute."""

ORDER, COMMON = ("fp16", "fp32", "bf16", "int8"), ("fp16", "fp32")
"""Precisions in the order in which they are run; those of `COMMON` come before what takes longer."""

BUILT = ("tensorrt", "tensorrt-rtx")
SLOW, FIRST, BUILD = 6.0, 3.0, 12.0
"""Weights, the shares of the time against 1, of stages that compile, that read libraries first, and that build."""

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
    stored = bundle.graph_precisions(IMAGE_ENCODER)
    common, others = ([p for p in ORDER if p in stored and (p in COMMON) == wanted] for wanted in (True, False))
    backends = [name for name in GPU_BACKENDS if name not in found.absent]
    ready, built = [b for b in backends if b not in BUILT], [b for b in backends if b in BUILT]

    def ready_in(precisions: list[str]) -> Iterator[Stage]:
        for precision in precisions:
            for backend in ready:
                yield from _engine(backend, precision, str(folder))

    def built_in(precisions: list[str]) -> Iterator[Stage]:
        for backend in built:
            for precision in precisions:
                yield from _built(backend, precision, str(folder), found.capability)

    engines = list(ready_in(common))
    if engines:
        engines[0] = replace(engines[0], weight=FIRST)
    eager, compiled = _torch(bundle) if "pytorch" not in found.absent else ([], [])
    stages = [Stage("GPU", "fp32", MASKS, "masks", {"bundle": str(folder)}), *engines, *eager]
    stages += [*built_in(common), *ready_in(others), *built_in(others)]
    if SEGMENTER in bundle.manifest.files:
        opening = {"bundle": str(folder), "precision": "fp32"}
        stages += [Stage(b, "fp32", "fused graph", "fused", {**opening, "backend": b}) for b in ready]
    return [*stages, *compiled]


def _built(backend: str, precision: str, bundle: str, capability: str) -> Iterator[Stage]:
    arguments = {"bundle": bundle, "backend": backend, "precision": precision, "capability": capability}
    build = Stage(backend, precision, "build", "build", {**arguments, "max_batch": max(BATCHES)}, BUILD)
    yield build
    yield from _engine(backend, precision, bundle, build.name)


def _engine(backend: str, precision: str, bundle: str, after: str | None = None) -> Iterator[Stage]:
    opening = {"bundle": bundle, "backend": backend, "precision": precision}
    timed = {**opening, "batches": list(BATCHES)}
    yield Stage(backend, precision, PROOF, "selftest", opening, after=after)
    yield Stage(backend, precision, LATENCY, "latency", timed, after=after)
    if backend == "onnxruntime-cuda":
        yield Stage(backend, precision, GRAPH, "latency", {**timed, "cuda_graph": True}, after=after)
    yield Stage(backend, precision, IMAGE, "image", opening, after=after)


def _torch(bundle: Bundle) -> tuple[list[Stage], list[Stage]]:
    """Stages of PyTorch eager, and those of PyTorch compiled, of which the encoder alone is timed."""
    model = bundle.manifest.model
    made = {"backbone": model.backbone, "size": list(model.input_size), "bundle": str(bundle.folder)}

    def stage(what: str, task: str, kind: str, batches: tuple[int, ...], weight: float = 1.0) -> Stage:
        return Stage("PyTorch", kind, what, task, {**made, "kind": kind, "batches": list(batches)}, weight)

    eager = [kind for kind in TORCH_KINDS if "compiled" not in kind]
    compiled = [kind for kind in TORCH_KINDS if "compiled" in kind]
    return (
        [stage(LATENCY, "torch_latency", kind, BATCHES) for kind in eager]
        + [stage(IMAGE, "torch_image", kind, BATCHES) for kind in eager],
        [stage(LATENCY, "torch_latency", kind, COMPILED_BATCHES, SLOW) for kind in compiled],
    )
