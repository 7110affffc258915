"""Writing a model repository: a folder for each model, each of them whole or not there."""

from __future__ import annotations

import importlib.resources
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from t2d_runtime.backends.names import BACKENDS
from t2d_runtime.bundle.engines import ENGINES_FOLDER, EngineManifest, read_engine, read_engines
from t2d_runtime.bundle.files import ENCODERS, MANIFEST, SEGMENTER, Bundle
from t2d_runtime.device.install import needs_extra
from t2d_runtime.device.threads import checked_num_threads
from t2d_runtime.errors import BackendError, BundleError, OptionError, OutputError
from t2d_runtime.proof.parity import PRECISIONS
from t2d_runtime.serving.triton import model
from t2d_runtime.storage.own_files import TEXT_MARK, is_own
from t2d_runtime.storage.whole_folder import whole_folder

if TYPE_CHECKING:
    from t2d_runtime.serving.triton import configs

EXTRA = "triton"

SEGMENTATION = "t2d"
GRAPHS = {name.removesuffix(".onnx"): name for name in (*ENCODERS, SEGMENTER)}
MODELS = (SEGMENTATION, *GRAPHS)
"""Models of a repository, and the names of their folders."""

CONFIG, VERSION, MODEL_FILE = "config.pbtxt", "1", "model.py"

FAST, AUTO = "fast", "auto"

TRITON_BACKENDS = {
    AUTO: "onnxruntime",
    "onnxruntime": "onnxruntime",
    "onnxruntime-cuda": "onnxruntime",
    "onnxruntime-tensorrt": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
}
"""Backend of this runtime -> Triton's backend for the graphs. TensorRT for RTX has none."""

ON_GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class RepositorySettings:
    """Settings of a repository."""

    backend: str = AUTO
    precision: str = "fp32"
    num_threads: int | None = None
    """CPU threads of each instance; None lets the engine choose."""
    instances: int = 1
    """Instances of each model, or of each model on each GPU."""
    models: tuple[str, ...] | None = None
    """Some of MODELS; None takes all that the bundle has for the backend."""
    refer: bool = False
    """True refers to the bundle where it is, False copies it."""


def write_repository(
    folder: Path, output: Path, settings: RepositorySettings, *, overwrite: bool = False
) -> tuple[str, ...]:
    """Write the models of a bundle into a model repository, beside other models there; returns their names.

    Raises MissingPackageError without the extra `triton`, OptionError, BundleError, BackendError (no built engine), and
    OutputError where a model's folder exists and is not this program's, or `overwrite` is not given.
    """
    with needs_extra(EXTRA):
        from t2d_runtime.serving.triton import configs
    _check(settings)
    bundle = Bundle.open(folder)
    names = _models(bundle, settings)
    if bundle.folder.resolve() in (output.resolve(), *output.resolve().parents):
        raise OutputError(f"{output} is in the bundle; choose another --output")
    for name in names:
        _refuse(output / name, overwrite=overwrite)
    gpu = settings.backend in ON_GPU
    placement = configs.Placement(gpu, settings.instances, checked_num_threads(settings.num_threads))
    with _folders(output, names) as staged:
        for name, staging in staged.items():
            version = staging / VERSION
            version.mkdir()
            if name == SEGMENTATION:
                _write_model(bundle, version, settings)
                config = configs.segmentation_config(_parameters(bundle, settings), placement)
            else:
                graph = _write_graph(bundle, GRAPHS[name], version, settings)
                config = configs.graph_config(graph, bundle.manifest.model, placement)
            (staging / CONFIG).write_text(configs.config_text(config), encoding="utf-8")
    return names


def _check(settings: RepositorySettings) -> None:
    if settings.backend not in (AUTO, *BACKENDS):
        raise OptionError(f"unknown backend {settings.backend!r}, expected one of {[AUTO, *BACKENDS]}")
    if settings.precision not in (*PRECISIONS, FAST):
        raise OptionError(f"precision is {settings.precision!r}, expected one of {[*PRECISIONS, FAST]}")
    if settings.instances < 1:
        raise OptionError(f"instances are {settings.instances}, expected a whole number from 1")
    unknown = [name for name in settings.models or () if name not in MODELS]
    if unknown or settings.models == ():
        raise OptionError(f"models are {list(settings.models or ())}, expected some of {list(MODELS)}")
    graphs = [name for name in settings.models or MODELS if name in GRAPHS]
    if not graphs:
        return
    if settings.precision == FAST:
        raise OptionError(f"precision fast is measured where {SEGMENTATION} runs; for graphs give one, or --models t2d")
    if settings.backend not in TRITON_BACKENDS:
        raise OptionError(f"Triton has no backend for graphs of {settings.backend}; give --models t2d")
    if settings.precision == "bf16" and settings.backend in (AUTO, "onnxruntime"):
        raise OptionError(
            "ONNX Runtime's CPU provider has no bfloat16 kernels; give --backend openvino, or --models t2d"
        )


def _models(bundle: Bundle, settings: RepositorySettings) -> tuple[str, ...]:
    """The models to write. Raises for one that is asked for and cannot be made."""
    if settings.models is not None:
        names = tuple(name for name in MODELS if name in settings.models)
    else:
        fused = settings.precision in bundle.graph_precisions(SEGMENTER)
        names = tuple(name for name in MODELS if name != "segmenter" or (fused and _takes_scalars(settings)))
    if "segmenter" in names and not _takes_scalars(settings):
        raise OptionError(
            f"Triton's {TRITON_BACKENDS[settings.backend]} backend has no inputs without dimensions, which segmenter "
            "has; leave it out of --models, or give an onnxruntime backend"
        )
    for name in names:
        if name in GRAPHS and TRITON_BACKENDS[settings.backend] != "tensorrt":
            bundle.graph(GRAPHS[name], settings.precision)
    return names


def _takes_scalars(settings: RepositorySettings) -> bool:
    return TRITON_BACKENDS.get(settings.backend) == "onnxruntime"


def _refuse(folder: Path, *, overwrite: bool) -> None:
    """Raises OutputError for an existing folder, unless it is one of this program's and may be replaced."""
    if not os.path.lexists(folder):
        return
    if not is_own(folder / CONFIG):
        raise OutputError(f"{folder} exists and is not a model of t2d-runtime; choose another --output")
    if not overwrite:
        raise OutputError(f"{folder} exists already; choose another --output, or add --overwrite")


@contextmanager
def _folders(output: Path, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """An unfinished folder for each model. They get their names together, when all are written."""
    new = not os.path.lexists(output)
    try:
        with ExitStack() as stack:
            yield {name: stack.enter_context(whole_folder(output / name)) for name in names}
    finally:
        if new and output.is_dir() and not any(output.iterdir()):
            output.rmdir()


def _write_model(bundle: Bundle, version: Path, settings: RepositorySettings) -> None:
    """The Python file, and the bundle where it is copied."""
    source = importlib.resources.files(__package__).joinpath("model_file.py").read_text(encoding="utf-8")
    (version / MODEL_FILE).write_text(f"# {TEXT_MARK}\n{source}", encoding="utf-8")
    if settings.refer:
        return
    target = version / model.BUNDLE_FOLDER
    missing = bundle.left_off
    for name in (MANIFEST, *(name for name in bundle.manifest.files if name not in missing)):
        file = bundle.folder / name if name == MANIFEST else bundle.file(name)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / name)
    if (bundle.folder / ENGINES_FOLDER).is_dir():
        shutil.copytree(bundle.folder / ENGINES_FOLDER, target / ENGINES_FOLDER)


def _parameters(bundle: Bundle, settings: RepositorySettings) -> dict[str, str]:
    """The parameters of the model `t2d`."""
    values = {
        model.BACKEND: settings.backend,
        model.PRECISION: settings.precision,
        model.MAX_PHRASES: str(model.DEFAULT_MAX_PHRASES),
    }
    if settings.num_threads is not None:
        values[model.NUM_THREADS] = str(settings.num_threads)
    if settings.refer:
        values[model.BUNDLE] = str(bundle.folder)
    return values


def _write_graph(bundle: Bundle, graph: str, version: Path, settings: RepositorySettings) -> configs.Graph:
    """The files of a graph; with `refer` as links. ONNX keeps its names, since a graph names its weights' file."""
    from t2d_runtime.serving.triton import configs

    backend = TRITON_BACKENDS[settings.backend]
    if backend == "tensorrt":
        folder, manifest = _engine(bundle, graph, settings.precision)
        built = manifest.graphs[graph]
        read_engine(folder, manifest, graph)
        _place(folder / built.file, version, refer=settings.refer)
        return configs.Graph(graph, backend, built.file, built)
    for file in bundle.graph_files(graph, settings.precision):
        _place(file, version, refer=settings.refer)
    accelerator = "tensorrt" if settings.backend == "onnxruntime-tensorrt" else None
    return configs.Graph(graph, backend, graph, accelerator=accelerator)


def _engine(bundle: Bundle, graph: str, precision: str) -> tuple[Path, EngineManifest]:
    """The one TensorRT engine of a graph in a precision. Triton's GPU is not known here, so there must be no choice."""
    found = [
        (folder, manifest)
        for folder, manifest in read_engines(bundle, "tensorrt").items()
        if manifest.identity.precision == precision and graph in manifest.graphs
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BackendError(
            f"{bundle.folder} has no TensorRT engine in {precision}; build it on Triton's machine, with its version of "
            f"TensorRT: t2d-export engine {bundle.folder} --backend tensorrt --precision {precision}"
        )
    names = ", ".join(f"{folder.name} ({manifest.identity.target})" for folder, manifest in found)
    raise BundleError(f"{bundle.folder} has several TensorRT engines in {precision}: {names}; keep one of them")


def _place(file: Path, version: Path, *, refer: bool) -> None:
    target = version / file.name
    if refer:
        target.symlink_to(file)
    else:
        shutil.copyfile(file, target)
