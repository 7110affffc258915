"""Builds engines from the ONNX graphs of a bundle. TensorRT's engines are strongly typed, with the graph's precision.

`tensorrt` builds for the GPU of this machine. `tensorrt-rtx` builds for a compute capability, and needs no GPU.
`openvino` compiles for this machine's processor.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from t2d_export.engines.attention import HALF, fuse_attention
from t2d_export.engines.fused_engine import fused_profiles, with_iterations
from t2d_export.engines.openvino_engine import build_openvino
from t2d_export.engines.token_table import dequantise_token_tables
from t2d_runtime.backends.tensorrt_module import load_tensorrt, make_logger
from t2d_runtime.bundle.engines import (
    ENGINE_MANIFEST,
    ENGINES_FOLDER,
    REFINED_SEGMENTER,
    SCHEMA_VERSION,
    BuiltGraph,
    EngineIdentityKey,
    EngineManifest,
    Profile,
    tensorrt_options,
)
from t2d_runtime.bundle.files import ENCODERS, IMAGE_ENCODER, SEGMENTER, TEXT_ENCODER, Bundle, record_of
from t2d_runtime.encoders import WINDOW_BATCH
from t2d_runtime.errors import ExportError, OptionError, OutputError
from t2d_runtime.storage.cache import digest_of, subfolder
from t2d_runtime.storage.whole_file import whole_file
from t2d_runtime.storage.whole_folder import whole_folder

if TYPE_CHECKING:
    import tensorrt  # type: ignore[import-not-found, unused-ignore]

log = logging.getLogger(__name__)

BACKENDS = ("tensorrt", "tensorrt-rtx", "openvino")

CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]")
"""Compute capability: major and minor version. The minor one has one digit, so that 1.20 is not taken for 12.0."""

TEXT_BATCH = 16
"""Classes encoded at once, to bound the memory that a context reserves. The runtime splits longer lists."""

MOST_PROMPTS = 80
"""Number of templates in CLIP's whole ImageNet set."""

WORKSPACE_BYTES = 4 * 2**30
"""Device memory that a tactic may use while it is tried."""


@dataclass(frozen=True)
class _Source:
    """A graph to build: its key in the engine's manifest, its ONNX bytes, its file, and its shapes."""

    key: str
    model: bytes
    path: Path
    profiles: dict[str, Profile]


@dataclass(frozen=True)
class Target:
    """Target of a build."""

    backend: str
    compute_capability: str | None = None
    """Compute capability such as 8.6; None is this machine's GPU."""
    max_batch: int | None = None
    """Most windows that the image encoder takes in one call; None is what the runtime passes. The runtime runs a larger
    batch in parts. Each window takes the GPU's memory, used or not."""


def build_engine(folder: Path, target: Target, precision: str, *, fused: bool = False) -> Path:
    """Build both encoders of a bundle, or its fused graph, for a target; returns the new folder under bundle/engines.

    Raises OptionError (a wrong or useless part of the target), BackendUnavailableError (no library, no GPU),
    BundleError (no such precision), BackendError (a precision that this processor lacks) and ExportError (TensorRT
    refuses a graph).
    """
    check_target(target, fused=fused)
    bundle = Bundle.open(folder)
    if target.backend == "openvino":
        return build_openvino(bundle, precision, fused=fused)
    trt = load_tensorrt(target.backend)
    name = target.compute_capability or _this_gpu()
    most = target.max_batch or WINDOW_BATCH
    sources = list(_fused_sources(bundle, precision) if fused else _encoder_sources(bundle, precision, most))
    identity = EngineIdentityKey(
        backend=target.backend,
        version=trt.__version__,
        target=name,
        precision=precision,
        onnx_sha256=bundle.graph_digests(precision, (SEGMENTER,) if fused else ENCODERS),
        options={
            "profiles": digest_of({source.key: source.profiles for source in sources}),
            "attention": "fused",
            **tensorrt_options(precision),
        },
    )
    output = folder / ENGINES_FOLDER / identity.folder_name
    with whole_folder(output) as staging:
        graphs = {source.key: _build(trt, target, source, precision, staging) for source in sources}
        content = EngineManifest(SCHEMA_VERSION, identity, graphs).to_json()
        (staging / ENGINE_MANIFEST).write_text(content, encoding="utf-8")
    return output


def check_target(target: Target, *, fused: bool = False) -> None:
    """Raise OptionError for a backend without engines, or another part that is invalid or has no effect."""
    if target.backend not in BACKENDS:
        raise OptionError(
            f"backend {target.backend!r} has no engines to build, expected {', '.join(BACKENDS)}; ONNX Runtime reads "
            "the bundle's graphs"
        )
    given = target.compute_capability
    if target.backend != "tensorrt-rtx" and given is not None:
        raise OptionError(f"{target.backend} builds for this machine; --compute-capability is for tensorrt-rtx")
    if target.backend == "tensorrt-rtx" and not CAPABILITY.fullmatch(given or ""):
        raise OptionError(
            f"tensorrt-rtx builds for a compute capability such as 8.6, got {given!r}; NVIDIA lists each GPU's"
        )
    if target.max_batch is None:
        return
    if target.max_batch < 1:
        raise OptionError(f"max_batch is {target.max_batch}, expected 1 window or more")
    if fused or target.backend == "openvino":
        what = "the fused graph takes one image" if fused else "openvino takes any number of windows"
        raise OptionError(f"max_batch has no effect, since {what}; leave it out")


def _encoder_sources(bundle: Bundle, precision: str, most_windows: int) -> Iterator[_Source]:
    """Both encoders, with the input shapes that the runtime uses."""
    model = bundle.manifest.model
    size, length = model.input_size, model.context_length
    usual = min(WINDOW_BATCH, most_windows)
    image = Profile((1, 3, *size), (usual, 3, *size), (most_windows, 3, *size))
    text = Profile((1, 1, 2), (TEXT_BATCH, 7, min(12, length)), (TEXT_BATCH, MOST_PROMPTS, length))
    for graph, profiles in ((IMAGE_ENCODER, {"pixel_values": image}), (TEXT_ENCODER, {"input_ids": text})):
        path = bundle.graph(graph, precision)
        yield _Source(graph, _for_tensorrt(path, precision), path, profiles)


def _for_tensorrt(path: Path, precision: str) -> bytes:
    """A graph whose attentions and token table TensorRT takes in this precision; in float32 the file as it is."""
    if precision not in HALF:
        return path.read_bytes()
    loaded = ir.load(path)
    fuse_attention(loaded.graph, precision)
    model = ir.to_proto(loaded)
    dequantise_token_tables(model)
    return bytes(model.SerializeToString())


def _fused_sources(bundle: Bundle, precision: str) -> Iterator[_Source]:
    """The fused graph without PAMR, and with its usual iterations."""
    path = bundle.graph(SEGMENTER, precision)
    profiles = fused_profiles(bundle.manifest, path)
    for key, iterations in ((SEGMENTER, 0), (REFINED_SEGMENTER, bundle.manifest.defaults.pamr.iterations)):
        yield _Source(key, with_iterations(path, iterations, precision), path, profiles)


def _build(trt: Any, target: Target, source: _Source, precision: str, folder: Path) -> BuiltGraph:
    messages: list[str] = []
    logger = make_logger(trt, messages.append)
    builder: tensorrt.Builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser: tensorrt.OnnxParser = trt.OnnxParser(network, logger)
    if not parser.parse(source.model, str(source.path)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ExportError(f"{target.backend} cannot read {source.path.name}: {errors}")
    config = builder.create_builder_config()
    rounding = getattr(trt.BuilderFlag, "TF32", None)
    if rounding is not None and "tf32" in tensorrt_options(precision):
        config.clear_flag(rounding)
    shapes = builder.create_optimization_profile()
    for name, profile in source.profiles.items():
        shapes.set_shape(name, profile.minimum, profile.optimum, profile.maximum)
    if config.add_optimization_profile(shapes) < 0:
        raise ExportError(f"{target.backend} takes no such shapes of {source.key}: {'; '.join(messages)}")
    if target.backend == "tensorrt-rtx":
        _aim(trt, config, str(target.compute_capability))
        serialized = builder.build_serialized_network(network, config)
    else:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        serialized = _build_with_timing_cache(trt, builder, network, config)
    if serialized is None:
        raise ExportError(f"{target.backend} cannot build {source.key}: {'; '.join(messages) or 'no reason given'}")
    path = folder / f"{source.path.stem}{'_refined' if source.key == REFINED_SEGMENTER else ''}.engine"
    path.write_bytes(serialized)
    warnings = tuple(dict.fromkeys(messages))
    return BuiltGraph(path.name, record_of(path), source.profiles, network.num_layers, warnings)


def _network_flags(trt: Any) -> int:
    """Flags for a strongly typed network. TensorRT 10 needs one; TensorRT 11 and TensorRT for RTX do not."""
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if strongly_typed is None else 1 << int(strongly_typed)


def _aim(trt: Any, config: Any, compute_capability: str) -> None:
    """Build for one compute capability, whatever GPU this machine has."""
    offered = {name: value for name, value in trt.ComputeCapability.__members__.items() if name.startswith("SM")}
    name = "SM" + compute_capability.replace(".", "")
    if name not in offered:
        known = ", ".join(f"{key[2:-1]}.{key[-1]}" for key in offered)
        raise OptionError(f"compute capability {compute_capability!r} is not among those offered: {known}")
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(offered[name], 0):
        raise ExportError(f"tensorrt-rtx refuses to build for compute capability {compute_capability}")


def _build_with_timing_cache(trt: Any, builder: Any, network: Any, config: Any) -> Any:
    """Build without timing tactics again that were timed for this version and GPU."""
    folder = subfolder("tensorrt")
    path = folder / f"timing-{digest_of(trt.__version__, _this_gpu())}.bin" if folder else None
    cache = config.create_timing_cache(path.read_bytes() if path and path.is_file() else b"")
    if not config.set_timing_cache(cache, False):  # made on another device, despite its name
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    serialized = builder.build_serialized_network(network, config)
    if path:
        try:
            with whole_file(path) as file:
                file.write(cache.serialize())
        except OutputError as error:
            log.warning("the next build will take as long: %s", error)
    return serialized


def _this_gpu() -> str:
    from t2d_runtime.device.cuda import Cuda

    name, capability, _ = Cuda().device()
    return f"{name} {capability}"
