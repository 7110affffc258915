"""A report of what is installed, what each backend can do here, and how to repair what does not work."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator

from t2d_runtime import __version__
from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.known_wrong import reports_on
from t2d_runtime.backends.names import BACKENDS, installed_module
from t2d_runtime.backends.registry import open_named
from t2d_runtime.bundle.from_hub import BUNDLES
from t2d_runtime.commands.measuring import remembered_choices
from t2d_runtime.device.cpu import cpu_name
from t2d_runtime.device.install import how_to_install
from t2d_runtime.device.machine import installed_version
from t2d_runtime.errors import T2DError
from t2d_runtime.masks.pamr.choice import loops_here
from t2d_runtime.proof.parity import PRECISIONS
from t2d_runtime.storage.cache import VARIABLE, cache_folder, subfolder
from t2d_runtime.storage.compiled_models import LIMIT_VARIABLE, compiled_limit, compiled_size

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


def examine() -> Iterator[str]:
    """Lines of the report: versions, the machine, then a verdict on each backend."""
    yield f"t2d-runtime {__version__}, Python {platform.python_version()}, {platform.platform()}"
    for package in (*RUNTIME_PACKAGES, *ENGINE_PACKAGES):
        yield f"  {package:<36} {installed_version(package) or 'not installed'}"
    yield f"processor: {cpu_name()}"
    yield f"PAMR: {loops_here()}"
    yield _cache()
    yield remembered_choices()
    yield from _onnxruntime_conflict()
    yield "extras:"
    for extra, packages in EXTRA_PACKAGES.items():
        yield f"  {extra:<20} {_extra(extra, packages)}"
    yield "backends:"
    for name in BACKENDS:
        try:
            yield from _abilities(open_named(name))
        except T2DError as error:
            yield f"  {name:<20} no: {error}"


def _extra(extra: str, packages: Iterable[str]) -> str:
    versions = {package: installed_version(package) for package in packages}
    missing = [package for package, version in versions.items() if version is None]
    if missing:
        return f"no: {', '.join(missing)} not installed; {how_to_install(extra)}"
    return f"ready: {', '.join(f'{package} {version}' for package, version in versions.items())}"


def _cache() -> str:
    if subfolder() is None:
        folder = cache_folder() or "none, since the user has no home folder"
        return f"cache: {folder}, which cannot be written; set {VARIABLE}"
    size, limit = compiled_size("openvino") / 2**30, compiled_limit() / 2**30
    bundles = compiled_size(BUNDLES) / 2**30
    return (
        f"cache: {cache_folder()}, {size:.2f} GiB of compiled models ({LIMIT_VARIABLE}: at most {limit:.3g}), "
        f"{bundles:.2f} GiB of bundles from hubs"
    )


def _abilities(backend: Backend) -> Iterator[str]:
    yield f"  {backend.name:<20} ready: {backend.identity}"
    runs = [precision for precision in PRECISIONS if backend.refusal(precision) is None]
    yield f"  {'':<20} runs {', '.join(runs)}, where the bundle holds it and its self-test passes"
    for precision in PRECISIONS:
        refusal = backend.refusal(precision)
        if refusal is not None:
            yield f"  {'':<20} not {precision}: {refusal}"
    reports = {report for precision in PRECISIONS for report in reports_on(backend.identity, precision)}
    for report in reports:
        yield f"  {'':<20} reported: {report}"


def _onnxruntime_conflict() -> Iterator[str]:
    """Warns where both onnxruntime and onnxruntime-gpu are installed: the later one overwrites the other's files.

    Removing one of them afterwards removes files that the other needs.
    """
    present = [name for name in ("onnxruntime", "onnxruntime-gpu") if installed_version(name)]
    pip = f"{sys.executable} -m pip"
    if len(present) == 2:
        yield "onnxruntime and onnxruntime-gpu are both installed and overwrite each other. To repair:"
        yield f"  {pip} uninstall -y onnxruntime onnxruntime-gpu"
        yield f"  then {how_to_install('gpu')} ('.[cpu]' on a machine without an NVIDIA GPU)"
    elif present and installed_module("onnxruntime") is None:
        yield f"{present[0]} is installed, but its files are gone, perhaps with the other package. To repair:"
        yield f"  {pip} install --force-reinstall --no-deps {present[0]}=={installed_version(present[0])}"
