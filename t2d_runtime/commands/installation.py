"""A report of what is installed, what each backend can do here, and how to repair what does not work."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from t2d_runtime import __version__
from t2d_runtime.backends.known_wrong import reports_on
from t2d_runtime.backends.names import BACKENDS
from t2d_runtime.backends.registry import open_named
from t2d_runtime.bundle.from_hub import BUNDLES
from t2d_runtime.commands.measuring import remembered_choices, remembered_speeds
from t2d_runtime.device.cpu import cpu_name
from t2d_runtime.device.install import how_to_install
from t2d_runtime.device.machine import installed_version
from t2d_runtime.device.onnxruntimes import conflict
from t2d_runtime.errors import T2DError
from t2d_runtime.masks.pamr.choice import loops_here
from t2d_runtime.proof.parity import PRECISIONS
from t2d_runtime.storage.cache import VARIABLE, cache_folder, subfolder
from t2d_runtime.storage.compiled_models import LIMIT_VARIABLE, compiled_limit, compiled_size
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY

RUNTIME_PACKAGES = ("numpy", "pillow", "tokenizers", "regex", "ftfy")
ENGINE_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "tensorrt-rtx-cu13-bindings",
    "cuda-bindings",
)

EXTRA_PACKAGES = {
    "heif": ("pi-heif",),
    "engine": ("onnx", "onnx-ir"),
    "shapes": ("pycocotools",),
    "video": ("av",),
    "serve": ("fastapi", "uvicorn", "python-multipart", "prometheus-client"),
    "triton": ("tritonclient", "grpcio", "protobuf"),
    "cluster": ("ray", "pyarrow", "pycocotools", "filelock"),
}
"""Extra of a command or a kind of file -> its packages."""


def facts_here() -> dict[str, Any]:
    """The report as JSON takes it: versions, the machine, the cache, extras and backends, and how to repair them."""
    cache, folder = cache_folder(), subfolder()
    return {
        GENERATOR_KEY: GENERATOR,
        "command": "doctor",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: installed_version(package) for package in (*RUNTIME_PACKAGES, *ENGINE_PACKAGES)},
        "processor": cpu_name(),
        "pamr": loops_here(),
        "cache": {
            "folder": None if cache is None else str(cache),
            "writable": folder is not None,
            "compiled_bytes": compiled_size("openvino"),
            "limit_bytes": compiled_limit(),
            "bundles_bytes": compiled_size(BUNDLES),
        },
        "speeds_remembered": remembered_speeds(),
        "repairs": list(conflict()),
        "extras": {extra: _extra(extra, packages) for extra, packages in EXTRA_PACKAGES.items()},
        "backends": {name: _backend(name) for name in BACKENDS},
    }


def _extra(extra: str, packages: Iterable[str]) -> dict[str, Any]:
    versions = {package: installed_version(package) for package in packages}
    ready = None not in versions.values()
    return {"ready": ready, "packages": versions, "install": None if ready else how_to_install(extra)}


def _backend(name: str) -> dict[str, Any]:
    try:
        backend = open_named(name)
        refusals = {precision: backend.refusal(precision) for precision in PRECISIONS}
        reports = {str(report) for precision in PRECISIONS for report in reports_on(backend.identity, precision)}
        return {
            "ready": True,
            "engine": str(backend.identity),
            "runs": [precision for precision, refusal in refusals.items() if refusal is None],
            "refuses": {precision: refusal for precision, refusal in refusals.items() if refusal is not None},
            "reports": sorted(reports),
        }
    except T2DError as error:
        return {"ready": False, "reason": str(error)}


def examine() -> Iterator[str]:
    """Lines of the report in words."""
    facts = facts_here()
    yield f"t2d-runtime {__version__}, Python {facts['python']}, {facts['platform']}"
    for package, version in facts["packages"].items():
        yield f"  {package:<36} {version or 'not installed'}"
    yield f"processor: {facts['processor']}"
    yield f"PAMR: {facts['pamr']}"
    yield _cache(facts["cache"])
    yield remembered_choices()
    yield from facts["repairs"]
    yield "extras:"
    for extra, found in facts["extras"].items():
        yield f"  {extra:<20} {_extra_line(found)}"
    yield "backends:"
    for name, found in facts["backends"].items():
        if found["ready"]:
            yield from _abilities(name, found)
        else:
            yield f"  {name:<20} no: {found['reason']}"


def _extra_line(found: Mapping[str, Any]) -> str:
    if found["ready"]:
        return f"ready: {', '.join(f'{package} {version}' for package, version in found['packages'].items())}"
    missing = [package for package, version in found["packages"].items() if version is None]
    return f"no: {', '.join(missing)} not installed; {found['install']}"


def _cache(cache: Mapping[str, Any]) -> str:
    if not cache["writable"]:
        folder = cache["folder"] or "none, since the user has no home folder"
        return f"cache: {folder}, which cannot be written; set {VARIABLE}"
    size, limit, bundles = (cache[name] / 2**30 for name in ("compiled_bytes", "limit_bytes", "bundles_bytes"))
    return (
        f"cache: {cache['folder']}, {size:.2f} GiB of compiled models ({LIMIT_VARIABLE}: at most {limit:.3g}), "
        f"{bundles:.2f} GiB of bundles from hubs"
    )


def _abilities(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {name:<20} ready: {found['engine']}"
    yield f"  {'':<20} runs {', '.join(found['runs'])}, where the bundle holds it and its self-test passes"
    for precision, refusal in found["refuses"].items():
        yield f"  {'':<20} not {precision}: {refusal}"
    for report in found["reports"]:
        yield f"  {'':<20} reported: {report}"
