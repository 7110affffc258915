"""OpenVINO on the CPU. It runs the ONNX files directly, or models compiled from them ahead of time."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.base import Arrays, EngineIdentity
from t2d_runtime.backends.openvino_module import openvino_module
from t2d_runtime.bundle.engines import EngineManifest, WantedEngine, misfit, read_engine
from t2d_runtime.bundle.files import ENCODERS, IMAGE_ENCODER, SEGMENTER, Bundle
from t2d_runtime.device.cpu import cpu_name
from t2d_runtime.errors import BackendError, BundleError
from t2d_runtime.storage.cache import digest_of
from t2d_runtime.storage.compiled_models import compiled_folder, keep_within_limit

logger = logging.getLogger(__name__)

DEVICE = "CPU"


class OpenVinoEngine:
    """One compiled model. Each call has an inference request of its own, which makes it safe for threads."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.inputs = frozenset(value.get_any_name() for value in compiled.inputs)
        self._outputs = [output.get_any_name() for output in compiled.outputs]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name."""
        try:
            results = self.compiled.create_infer_request().infer(dict(inputs))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed: {error}") from error
        return {name: np.array(results[index]) for index, name in enumerate(self._outputs)}


class OpenVinoBackend:
    """OpenVINO's CPU plugin. It runs bf16 from the float32 graph, where the CPU has bfloat16 units."""

    def __init__(self, name: str = "openvino") -> None:
        self.name = name
        self._openvino = openvino_module()
        self._core = self._openvino.Core()

    @cached_property
    def identity(self) -> EngineIdentity:
        """Version, without the build's hash, and CPU."""
        return EngineIdentity("OpenVINO", self._openvino.__version__.split("-")[0], cpu_name())

    def refusal(self, precision: str) -> str | None:
        """A CPU without bfloat16 units refuses bf16."""
        if precision == "bf16" and "BF16" not in self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
            return f"this CPU, {cpu_name()}, has no bfloat16 units"
        return None

    def precisions(self, bundle: Bundle) -> tuple[str, ...]:
        """Precisions that the bundle stores, and bf16 where the CPU has bfloat16 units."""
        stored = [name for name in bundle.graph_precisions(IMAGE_ENCODER) if name != "bf16"]
        return (*stored, "bf16") if self.refusal("bf16") is None else tuple(stored)

    def digests(self, bundle: Bundle, precision: str, graphs: Sequence[str] = ENCODERS) -> tuple[str, ...]:
        """sha256 of the stored graphs, and of models compiled from them ahead of time."""
        stored = bundle.graph_digests(self.stored_precision(precision), graphs)
        built = self._built(bundle, precision, graphs)
        records = [built[1].graphs[graph].record for graph in graphs] if built else []
        return stored + tuple(record.sha256 for record in records)

    def load(self, bundle: Bundle, graph: str, *, precision: str, num_threads: int | None) -> OpenVinoEngine:
        """Load the engine built for this CPU, else the compiled model in the cache, else compile the graph."""
        self.require(bundle, graph, precision)
        options = self.options(graph, precision)
        if num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = num_threads
        built = self._built(bundle, precision, (graph,))
        if built is not None:
            return OpenVinoEngine(self._import(*built, graph, options))
        # OpenVINO identifies a cached file by its path and date, not by its content, so each graph has a folder.
        # OpenVINO keeps versions and options apart itself, and compiles again where a cached model is damaged.
        cache = compiled_folder(self.name, digest_of(self.digests(bundle, precision, (graph,))))
        if cache is not None:
            options["CACHE_DIR"] = str(cache)
        compiled = self._compile_checked(bundle, graph, self.stored_precision(precision), options, cache)
        if cache is not None:
            keep_within_limit(cache)
        return OpenVinoEngine(compiled)

    def _compile_checked(
        self, bundle: Bundle, graph: str, stored: str, options: dict[str, Any], cache: Path | None
    ) -> Any:
        """Compile a graph, or read it from the cache while its checksum is computed.

        A graph is compiled and cached only after its checksum.
        """
        if cache is None or not any(cache.iterdir()):
            bundle.graph(graph, stored)
        try:
            with bundle.graph_in_use(graph, stored) as path:
                return self.compile(path, options)
        except BundleError:
            if cache is not None:  # a cached model of another date may have been compiled again
                shutil.rmtree(cache, ignore_errors=True)
            raise

    def require(self, bundle: Bundle, graph: str, precision: str) -> None:
        """Raise BackendError where a graph cannot run in a precision here."""
        refusal = self.refusal(precision)
        if refusal is not None:
            raise BackendError(f"{refusal}; this backend runs the bundle in {', '.join(self.precisions(bundle))}")
        if graph == SEGMENTER and self.stored_precision(precision) != precision:
            raise BackendError(
                f"OpenVINO computes {precision} by a hint for a whole graph, which would round the fused graph's "
                "pixels and scores too; use fp32, fp16 or int8, or the graphs of both encoders"
            )

    def options(self, graph: str, precision: str) -> dict[str, Any]:
        """Options for low latency, with the computation's type always stated."""
        hint = "f32" if graph == SEGMENTER else self.hint(precision)
        return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}

    def compile(self, path: Path, options: dict[str, Any]) -> Any:
        """An openvino.CompiledModel of an ONNX file. Raises BackendError."""
        try:
            return self._core.compile_model(path, DEVICE, options)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot compile {path}: {error}") from error

    def wanted(self, bundle: Bundle, precision: str, graphs: Sequence[str]) -> WantedEngine:
        """The graphs, version and processor that an engine must have been built for."""
        digests = bundle.graph_digests(self.stored_precision(precision), graphs)
        return WantedEngine(self.name, self.identity.version, self.identity.device, precision, digests, graphs)

    def _built(self, bundle: Bundle, precision: str, graphs: Sequence[str]) -> tuple[Path, EngineManifest] | None:
        """The engine built ahead of time, if one fits. One for another machine is logged; the graph is used instead."""
        wanted = self.wanted(bundle, precision, ENCODERS if set(graphs) <= set(ENCODERS) else graphs)
        built = wanted.built(bundle)
        for folder, manifest in built.items():
            if wanted.fits(manifest.identity):
                return folder, manifest
        for folder, manifest in built.items():
            logger.warning(
                "not used: %s; this machine has version %s, %s",
                misfit(wanted, folder, manifest),
                wanted.version,
                wanted.target,
            )
        return None

    def _import(self, folder: Path, manifest: EngineManifest, graph: str, options: dict[str, Any]) -> Any:
        content = read_engine(folder, manifest, graph)
        try:
            # Without the options it would compute in bfloat16 wherever the CPU has units for it.
            return self._core.import_model(content, DEVICE, options)
        except RuntimeError as error:
            raise BackendError(
                f"{self.identity} refuses {folder}: {error}; remove it and build it again with 't2d-export engine'"
            ) from error

    def hint(self, precision: str) -> str:
        """The type of the computation. It is always given, since OpenVINO would choose bf16 wherever the CPU has it.

        With int8, the parts that are not quantised run in bf16. That adds far less error than the quantisation and
        saves a fifth of the time.
        """
        if precision == "bf16" or (precision == "int8" and self.refusal("bf16") is None):
            return "bf16"
        return "f32"

    def stored_precision(self, precision: str) -> str:
        """The precision of the bundle's graph from which a requested precision is compiled."""
        return "fp32" if precision == "bf16" else precision
