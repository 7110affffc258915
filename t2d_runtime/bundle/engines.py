"""Engines built ahead of time, in bundle/engines/<backend>-<key>/.

engine.json says which graphs an engine was built from, and for which version and device. The files beside it are plain
engine files that trtexec and Triton read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from t2d_runtime.bundle.files import ENCODERS, SEGMENTER, Bundle
from t2d_runtime.bundle.manifest import FileRecord
from t2d_runtime.errors import BackendError
from t2d_runtime.storage.cache import digest_of
from t2d_runtime.storage.reading import reason_against
from t2d_runtime.storage.strict_json import parse_json

ENGINES_FOLDER = "engines"
ENGINE_MANIFEST = "engine.json"
SCHEMA_VERSION = 2

REFINED_SEGMENTER = "segmenter.onnx with PAMR"
"""An engine's graph with PAMR. SEGMENTER is the one without, since TensorRT fixes the number of iterations."""


@dataclass(frozen=True)
class Profile:
    """Shapes of one input that an engine takes; it is tuned for the optimum."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


@dataclass(frozen=True)
class BuiltGraph:
    """One graph as a built engine."""

    file: str
    record: FileRecord
    profiles: Mapping[str, Profile]
    """Input name -> profile."""
    num_layers: int
    """Number of layers in the parsed network, before the builder fused them."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class EngineIdentityKey:
    """The graphs, version and target of an engine. All of them decide whether it may be used."""

    backend: str
    version: str
    """Version of the engine's library."""
    target: str
    """Compute capability such as 8.6, with the device's name in front where an engine serves one model of GPU only."""
    precision: str
    onnx_sha256: tuple[str, ...]
    options: Mapping[str, str]

    @property
    def folder_name(self) -> str:
        """<backend>-<key>."""
        parts = (self.version, self.target, self.precision, self.onnx_sha256, sorted(self.options.items()))
        return f"{self.backend}-{digest_of(*parts)[:16]}"


def tensorrt_options(precision: str) -> dict[str, str]:
    """Options with which TensorRT must have built an engine of a precision.

    TF32 rounds the operands of float32's products to 11 bits, unless the builder is told not to.
    """
    return {"tf32": "off"} if precision == "fp32" else {}


@dataclass(frozen=True)
class EngineManifest:
    """The content of engine.json."""

    schema_version: int
    identity: EngineIdentityKey
    graphs: Mapping[str, BuiltGraph]
    """ENCODERS, or SEGMENTER and REFINED_SEGMENTER."""

    def to_json(self) -> str:
        """The text of engine.json."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def read_engines(bundle: Bundle, backend: str) -> dict[Path, EngineManifest]:
    """Folder -> manifest of every engine of a backend in a bundle. Raises BackendError for a damaged manifest."""
    found = {}
    named = re.compile(rf"{re.escape(backend)}-[0-9a-f]+")  # so that tensorrt-rtx-... is not taken for tensorrt
    for path in sorted((bundle.folder / ENGINES_FOLDER).glob(f"{backend}-*/{ENGINE_MANIFEST}")):
        if named.fullmatch(path.parent.name) is None:
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BackendError(f"{path} cannot be read: {reason_against(error)}") from error
        except (ValueError, RecursionError) as error:
            raise BackendError(
                f"{path} is damaged ({error}); remove {path.parent} and build the engine again"
            ) from error
        manifest = parse_json(EngineManifest, content, str(path), BackendError)
        if manifest.schema_version != SCHEMA_VERSION:
            raise BackendError(
                f"{path} has schema version {manifest.schema_version}, expected {SCHEMA_VERSION}; remove {path.parent} "
                "and build the engine again"
            )
        found[path.parent] = manifest
    return found


@dataclass(frozen=True)
class WantedEngine:
    """The graphs, version and target that an engine of a bundle must have."""

    backend: str
    version: str
    target: str
    precision: str
    onnx_sha256: tuple[str, ...]
    """sha256 of the bundle's graphs as they are now."""
    graphs: Sequence[str] = ENCODERS
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the build that it must have, among others."""

    def fits(self, identity: EngineIdentityKey) -> bool:
        """True where an engine of this precision was built for this version and target, from these graphs."""
        built = (identity.version, identity.target, identity.onnx_sha256)
        return built == (self.version, self.target, self.onnx_sha256) and not self.missing(identity)

    def missing(self, identity: EngineIdentityKey) -> list[str]:
        """Options of the build that an engine lacks."""
        return [f"{name} {value}" for name, value in self.options.items() if identity.options.get(name) != value]

    def built(self, bundle: Bundle) -> dict[Path, EngineManifest]:
        """The bundle's engines of these graphs in this precision, whether they fit or not."""
        engines = read_engines(bundle, self.backend).items()
        return {
            folder: manifest
            for folder, manifest in engines
            if manifest.identity.precision == self.precision and self.graphs[0] in manifest.graphs
        }


def find_engine(bundle: Bundle, wanted: WantedEngine) -> tuple[Path, EngineManifest]:
    """The engine that fits.

    Raises BackendError, which lists the engines found, the expected one, and the command that builds it.
    """
    built = wanted.built(bundle)
    for folder, manifest in built.items():
        if wanted.fits(manifest.identity):
            return folder, manifest
    raise BackendError(
        f"no {wanted.backend} engine in {wanted.precision} fits: expected version {wanted.version}, {wanted.target}; "
        f"found {'; '.join(misfit(wanted, folder, manifest) for folder, manifest in built.items()) or 'none'}; "
        f"build it with '{build_command(bundle, wanted)}'"
    )


def misfit(wanted: WantedEngine, folder: Path, manifest: EngineManifest) -> str:
    """Description of an engine that does not fit."""
    identity = manifest.identity
    stale = "" if identity.onnx_sha256 == wanted.onnx_sha256 else ", built from other graphs than the bundle's"
    lacking = "".join(f", built without {option}" for option in wanted.missing(identity))
    return f"{folder.name} (version {identity.version}, {identity.target}{stale}{lacking})"


def build_command(bundle: Bundle, wanted: WantedEngine) -> str:
    """The command line that builds an engine."""
    command = f"t2d-export engine {bundle.folder} --backend {wanted.backend} --precision {wanted.precision}"
    if wanted.backend == "tensorrt-rtx":
        command += f" --compute-capability {wanted.target}"
    return f"{command} --fused" if SEGMENTER in wanted.graphs else command


def read_engine(folder: Path, manifest: EngineManifest, graph: str) -> bytes:
    """The bytes of a built graph. Raises BackendError where they have changed since it was built."""
    rebuild = f"remove {folder} and build the engine again with 't2d-export engine'"
    built = manifest.graphs.get(graph)
    if built is None or PurePath(built.file).name != built.file:
        raise BackendError(f"{folder / ENGINE_MANIFEST} names no file of its folder for {graph}; {rebuild}")
    path = folder / built.file
    try:
        size = path.stat().st_size
        if size != built.record.size_bytes:
            raise BackendError(f"{path} has {size} bytes, {built.record.size_bytes} were built: cut short; {rebuild}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BackendError(f"{path} is missing; {rebuild}") from error
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {reason_against(error)}") from error
    if hashlib.sha256(content).hexdigest() != built.record.sha256:
        raise BackendError(f"{path} does not have the sha256 it was built with: damaged; {rebuild}")
    return content
