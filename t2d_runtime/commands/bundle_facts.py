"""The content of `t2d info --json`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from t2d_runtime.backends.names import BACKENDS, installed_module
from t2d_runtime.backends.registry import opens
from t2d_runtime.bundle.engines import ENGINES_FOLDER, read_engines
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.commands.measuring import order_here
from t2d_runtime.device.cpu import cpu
from t2d_runtime.device.threads import available_cores
from t2d_runtime.errors import BackendError
from t2d_runtime.masks.pamr.choice import loops_here
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY


def quick_backends() -> list[str]:
    """Backends that open here, but for TensorRT's, which take a second to open."""
    return [name for name in BACKENDS if not name.startswith("tensorrt") and opens(name)]


def slow_backends() -> list[str]:
    """TensorRT's backends that are installed here. They may still not open."""
    return [name for name in BACKENDS if name.startswith("tensorrt") and installed_module(name)]


def built_engines(bundle: Bundle) -> list[dict[str, Any]]:
    """The target of each engine of 't2d-export engine', and an error for a backend with a damaged one."""
    found: list[dict[str, Any]] = []
    for backend in BACKENDS:
        try:
            engines = read_engines(bundle, backend)
        except BackendError as error:
            found.append({"backend": backend, "error": str(error)})
            continue
        for folder, manifest in engines.items():
            built = manifest.identity
            target = {"version": built.version, "precision": built.precision, "target": built.target}
            place = f"{ENGINES_FOLDER}/{folder.name}"
            found.append({"backend": backend, **target, "graphs": list(manifest.graphs), "folder": place})
    return found


def engine_line(engine: dict[str, Any]) -> str:
    """A built engine in words."""
    if "error" in engine:
        return "{backend}: {error}".format_map(engine)
    graphs = ", ".join(engine["graphs"])
    return "{backend} {version}, {precision}, for {target}: ".format_map(engine) + f"{graphs} in {engine['folder']}"


def bundle_facts(bundle: Bundle, name: Path | str) -> dict[str, Any]:
    """Facts about a bundle that was given by a name, and where it runs here, as JSON takes them."""
    manifest, order = bundle.manifest, order_here(bundle)
    return {
        GENERATOR_KEY: GENERATOR,
        "command": "info",
        "bundle": str(name),
        "folder": str(bundle.folder),
        "pulled_from": bundle.pulled_from,
        "size_bytes": sum(record.size_bytes for record in manifest.files.values()),
        "left_off": bundle.left_off,
        "digest": manifest.digest,
        "model_digest": bundle.model_digest,
        "vocabulary_digest": bundle.vocabulary_digest,
        "schema_version": manifest.schema_version,
        "opset": manifest.opset,
        "model": asdict(manifest.model),
        "windows": asdict(manifest.windows),
        "defaults": asdict(manifest.defaults),
        "prompt_sets": manifest.prompt_sets,
        "sources": {part: asdict(source) for part, source in manifest.sources.items()},
        "exporter": manifest.exporter,
        "parity_failed": [stage.stage for stage in manifest.parity if not stage.passed],
        "verdicts": {
            precision: {backend: asdict(verdict) for backend, verdict in verdicts.items()}
            for precision, verdicts in manifest.precisions.items()
        },
        "engines": built_engines(bundle),
        "backends": quick_backends(),
        "installed": slow_backends(),
        "auto": {"backend": order.names[0], "precision": "fp32", "reason": order.reason},
        "processor": {"model": cpu().model, "units": cpu().units, "cores": available_cores()},
        "pamr": loops_here(),
    }
