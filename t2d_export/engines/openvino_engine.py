"""Compiles ONNX graphs of a bundle with OpenVINO, for this machine's processor.

OpenVINO runs the graphs without this. Compiled ahead of time they start sooner on a device whose cache is empty or
cannot be written, such as a read-only image.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, cast

from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.engines import (
    ENGINE_MANIFEST,
    ENGINES_FOLDER,
    SCHEMA_VERSION,
    BuiltGraph,
    EngineIdentityKey,
    EngineManifest,
)
from t2d_runtime.bundle.files import ENCODERS, SEGMENTER, Bundle, record_of
from t2d_runtime.storage.whole_folder import whole_folder

if TYPE_CHECKING:
    from t2d_runtime.backends.openvino import OpenVinoBackend


def build_openvino(bundle: Bundle, precision: str, *, fused: bool) -> Path:
    """Compile both encoders, or the fused graph, for this processor; returns the new folder under bundle/engines.

    Raises BackendUnavailableError (no OpenVINO), BackendError (a precision that this processor lacks) and BundleError
    (a precision that the bundle lacks).
    """
    backend = cast("OpenVinoBackend", open_backend("openvino"))
    names = (SEGMENTER,) if fused else ENCODERS
    for name in names:
        backend.require(bundle, name, precision)
    wanted = backend.wanted(bundle, precision, names)
    identity = EngineIdentityKey(
        backend=wanted.backend,
        version=wanted.version,
        target=wanted.target,
        precision=precision,
        onnx_sha256=wanted.onnx_sha256,
        options={name: str(backend.options(name, precision)) for name in names},
    )
    output = bundle.folder / ENGINES_FOLDER / identity.folder_name
    with whole_folder(output) as staging:
        graphs = {name: _build(backend, bundle, name, precision, staging) for name in names}
        (staging / ENGINE_MANIFEST).write_text(
            EngineManifest(SCHEMA_VERSION, identity, graphs).to_json(), encoding="utf-8"
        )
    return output


def _build(backend: OpenVinoBackend, bundle: Bundle, graph: str, precision: str, folder: Path) -> BuiltGraph:
    source = bundle.graph(graph, backend.stored_precision(precision))
    compiled = backend.compile(source, backend.options(graph, precision))
    path = folder / f"{source.stem}.blob"
    content = io.BytesIO()  # OpenVINO writes to this kind of stream only
    compiled.export_model(content)
    path.write_bytes(content.getbuffer())
    return BuiltGraph(path.name, record_of(path), {}, len(compiled.get_runtime_model().get_ops()), ())
