"""ONNX Runtime as a backend: providers by name, precisions, the switch of int8."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from t2d_runtime import Segmenter
from t2d_runtime.backends import registry
from t2d_runtime.backends.names import BACKENDS, BackendFacts, installed_module
from t2d_runtime.backends.onnxruntime import OF_INT8, PROVIDERS, OnnxRuntimeBackend
from t2d_runtime.backends.openvino import OpenVinoBackend
from t2d_runtime.backends.registry import auto_order, available_backends, open_backend, open_candidates
from t2d_runtime.bundle.files import IMAGE_ENCODER, SELFTEST, TEXT_ENCODER, Bundle
from t2d_runtime.bundle.manifest import sealed
from t2d_runtime.device import nvidia
from t2d_runtime.device.cpu import Cpu
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BackendError, BackendUnavailableError, BundleError, OptionError
from t2d_runtime.proof.parity import GATES
from t2d_runtime.proof.selftest import SelfTestVectors, run_selftest


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_stored_precision_passes_its_own_gates_and_not_those_of_float32(
    exported_bundle: Path, precision: str
) -> None:
    stages = run_selftest(
        Segmenter.open(exported_bundle, backend="onnxruntime", precision=precision).encoders, masks=False
    )
    assert all(stage.passed for stage in stages)
    tokens = next(stage for stage in stages if stage.stage == "patch_tokens")
    assert tokens.measure == "relative_frobenius"
    assert tokens.tolerance == GATES[precision].relative_frobenius
    assert tokens.relative_frobenius is not None
    assert tokens.relative_frobenius > 1e-5


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_only_int8_is_kept_from_being_fused_back_to_float32(
    exported_bundle: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    real = onnxruntime.InferenceSession

    def session(path: Path, options: Any, **keywords: Any) -> Any:
        given.append(options)
        return real(path, options, **keywords)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    backend = open_backend("onnxruntime")
    backend.load(Bundle.open(exported_bundle), IMAGE_ENCODER, precision=precision, num_threads=1)
    (options,) = given
    assert options.intra_op_num_threads == 1
    for switch, value in OF_INT8.items():
        if precision == "int8":
            assert options.get_session_config_entry(switch) == value
        else:
            with pytest.raises(RuntimeError):
                options.get_session_config_entry(switch)


def test_int8_is_as_precise_as_its_products_on_this_processor(exported_bundle: Path) -> None:
    """Without VNNI sums of two byte products would saturate: words were then up to a tenth of their norm off."""
    bundle, backend = Bundle.open(exported_bundle), OnnxRuntimeBackend("onnxruntime")
    vectors = SelfTestVectors.load(bundle.file(SELFTEST))
    encoders = Encoders(bundle, backend, precision="int8")
    crops = vectors.first_window(bundle.manifest.windows)[np.newaxis]
    ids = encoders.tokenize(["traffic light", "a photo of a cat.", "a rock in the sand"])
    inputs = {IMAGE_ENCODER: encoders._image_inputs(crops), TEXT_ENCODER: {"input_ids": ids[:, np.newaxis]}}
    for graph, given in inputs.items():
        as_written = {"session.disable_quant_qdq": "1"}  # float32 products of the bytes
        expected = backend.open_session(bundle.graph(graph, "int8"), None, as_written).run(given)
        got = backend.load(bundle, graph, precision="int8", num_threads=None).run(given)
        for name, values in expected.items():
            assert np.linalg.norm(got[name] - values) < 0.005 * np.linalg.norm(values), name


def test_the_optimised_int8_graph_multiplies_integers(exported_bundle: Path, tmp_path: Path) -> None:
    """What the switch is for: without it, where the batch is known, MatMul and bias become a float Gemm."""
    graph = Bundle.open(exported_bundle).graph(IMAGE_ENCODER, "int8")
    products = {}
    for switch in ("MatMulAddFusion", ""):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(tmp_path / f"optimised{switch}.onnx")
        if switch:
            options.add_session_config_entry("optimization.disable_specified_optimizers", switch)
        options.log_severity_level = 4
        options.add_free_dimension_override_by_name("batch", 1)
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        products[switch] = Path(options.optimized_model_filepath).read_bytes().count(b"MatMulIntegerToFloat")
    assert products["MatMulAddFusion"] > products[""] == 0


def test_bf16_on_the_cpu_provider_is_an_error_that_lists_what_runs(exported_bundle: Path) -> None:
    with pytest.raises(BackendError, match=r"no bfloat16 kernels; use backend 'openvino' .* fp32, fp16, int8"):
        Segmenter.open(exported_bundle, backend="onnxruntime", precision="bf16")
    assert open_backend("onnxruntime").precisions(Bundle.open(exported_bundle)) == ("fp32", "fp16", "int8")


def test_a_provider_that_is_not_active_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(BackendUnavailableError, match=r"needs CUDAExecutionProvider.*CPUExecutionProvider"):
        open_backend("onnxruntime-cuda")


def test_a_provider_that_does_not_start_is_an_error(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["OtherExecutionProvider"])
    with pytest.raises(BackendUnavailableError, match="CPUExecutionProvider did not start"):
        Segmenter.open(exported_bundle, backend="onnxruntime")


def test_why_a_gpu_provider_does_not_start_is_said(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With CUDA's libraries in a package elsewhere on the search path, which are loaded first."""
    (tmp_path / "nvidia" / "cu13" / "lib").mkdir(parents=True)
    (tmp_path / "tensorrt_libs").mkdir()
    (tmp_path / "tensorrt_libs" / "libnvinfer.so.10").touch()
    for name in ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libother.so.1"):
        (tmp_path / "nvidia" / "cu13" / "lib" / name).touch()
    loaded: list[str] = []

    def load(path: str, mode: int) -> None:
        loaded.append(Path(path).name)
        if "providers_cuda" in path:
            raise OSError("libcudnn.so.9: cannot open shared object file")

    def find_spec(name: str) -> Any:
        return SimpleNamespace(submodule_search_locations=[str(tmp_path / name)])

    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *given, **named: session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    backend = open_backend("onnxruntime-cuda")
    monkeypatch.setattr(nvidia.ctypes, "CDLL", load)
    monkeypatch.setattr(nvidia, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=find_spec)))
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(BackendUnavailableError, match=r"only \['CPU.*\] did \(libcudnn\.so\.9: cannot open"):
        backend.load(Bundle.open(exported_bundle), IMAGE_ENCODER, precision="fp32", num_threads=None)
    libraries = ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13"]
    assert loaded == [*libraries, "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"]
    loaded.clear()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(BackendUnavailableError):
        backend.load(Bundle.open(exported_bundle), IMAGE_ENCODER, precision="fp32", num_threads=None)
    assert loaded[-2:] == ["onnxruntime_providers_shared.dll", "onnxruntime_providers_cuda.dll"]


def test_unknown_names_are_refused_with_those_that_are_known(exported_bundle: Path) -> None:
    with pytest.raises(OptionError, match=r"precision is 'fp8', expected one of .*'fast'"):
        Segmenter.open(exported_bundle, precision="fp8")
    with pytest.raises(OptionError, match=r"unknown backend 'tflite', expected one of .*'tensorrt-rtx'"):
        Segmenter.open(exported_bundle, backend="tflite")


def test_a_precision_that_the_bundle_lacks_says_how_to_export_it(bundle_copy: Path) -> None:
    manifest = bundle_copy / "manifest.json"
    manifest.write_text(sealed(json.loads(manifest.read_text().replace("precisions/fp16/", "precisions/none/"))))
    (bundle_copy / "precisions" / "fp16").rename(bundle_copy / "precisions" / "none")
    with pytest.raises(BundleError, match=r"no image_encoder.onnx in precision 'fp16'.*--precision fp32,fp16"):
        Segmenter.open(bundle_copy, backend="onnxruntime", precision="fp16")


def test_a_folder_of_type_stubs_is_no_installed_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "an_engine_of_stubs").mkdir()
    (tmp_path / "an_engine_of_stubs" / "__init__.pyi").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BACKENDS, "stubs", BackendFacts("", ("an_engine_of_stubs",), ""))
    assert installed_module("stubs") is None
    assert installed_module("onnxruntime") == "onnxruntime"


def test_auto_without_any_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, facts in BACKENDS.items():
        monkeypatch.setitem(BACKENDS, name, replace(facts, modules=("no_such_module",)))
    with pytest.raises(BackendUnavailableError, match=r"in a checkout of t2d-runtime: pip install '\.\[cpu\]'"):
        open_backend("auto")


@pytest.mark.parametrize(
    ("units", "order"),
    [
        (("avx2",), ("onnxruntime", "openvino")),
        (("avx2", "avx512f", "avx512_vnni"), ("openvino", "onnxruntime")),
        ((), ("onnxruntime", "openvino")),
    ],
)
def test_auto_goes_by_the_processor(
    units: tuple[str, ...], order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "AUTOMATIC", ("openvino", "onnxruntime"))
    monkeypatch.setattr(registry, "cpu", lambda: Cpu("a processor", units))
    with caplog.at_level("INFO"):
        assert tuple(backend.name for backend in open_candidates("auto")) == order
    assert f"backend auto: {order[0]} opens; {', '.join(order)} is the order on a processor" in caplog.text


BROKEN = "raise ImportError('libbroken.so: wrong ELF class')"


def t2d(*arguments: str, shadowed: Path) -> subprocess.CompletedProcess[str]:
    """`t2d` in a process of its own, where the modules of a folder are found before those that are installed."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from t2d_runtime.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, str(shadowed), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def broken(folder: Path, *names: str) -> Path:
    """The folder, with modules that do not load in the place of some engines."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(BROKEN)
    return folder


def test_an_engine_that_does_not_load_is_left_out_by_auto(exported_bundle: Path, tmp_path: Path) -> None:
    first, second = auto_order()  # of this processor
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    arguments = (str(tmp_path / "photo.png"), "--classes", "sea", "--format", "json", "--output", str(tmp_path / "out"))
    done = t2d("-v", "segment", str(exported_bundle), *arguments, shadowed=broken(tmp_path / "modules", first))
    assert done.returncode == 0, done.stderr
    assert f"backend auto: not {first}: " in done.stderr
    assert "wrong ELF class" in done.stderr
    assert f"backend auto: {second} opens" in done.stderr


def test_engines_that_do_not_load_are_one_line_each_with_the_repair(exported_bundle: Path, tmp_path: Path) -> None:
    modules = broken(tmp_path / "modules", "openvino", "onnxruntime")
    done = t2d("doctor", shadowed=modules)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in done.stdout.splitlines() if line.split()[:2] == ["openvino", "no:"]]
    assert f"{modules / 'openvino' / '__init__.py'} does not load: libbroken.so: wrong ELF class" in line
    assert "uninstall it, then in a checkout of t2d-runtime: pip install '.[openvino]'" in line
    refused = {line.split()[0] for line in done.stdout.splitlines() if line.split()[1:2] == ["no:"]}
    assert refused >= {"openvino", "onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"}
    done = t2d("segment", str(exported_bundle), str(exported_bundle / "a.png"), "--classes", "a", shadowed=modules)
    assert done.returncode == 2
    said = f"t2d: error: no inference engine opens here: backend {auto_order()[0]!r} is"
    assert done.stderr.splitlines()[-1].startswith(said)


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError])
def test_an_engine_that_fails_as_it_opens_is_unavailable(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: OpenVinoBackend, name: str) -> None:
        raise error("no plugins.xml")

    monkeypatch.setattr(OpenVinoBackend, "__init__", broken)
    monkeypatch.setattr(registry, "AUTOMATIC", ("openvino", "onnxruntime"))
    with pytest.raises(BackendUnavailableError, match=r"no plugins\.xml; .*; other backends here: onnxruntime"):
        open_backend("openvino")
    with caplog.at_level("WARNING"):
        assert [backend.name for backend in open_candidates("auto")] == ["onnxruntime"]
    assert "backend auto: not openvino: " in caplog.text


def test_a_gpu_s_provider_without_a_gpu_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(nvidia, "DRIVER", "no-such-library")
    assert open_backend("onnxruntime-cuda").name == "onnxruntime-cuda"
    assert "onnxruntime-cuda" not in available_backends()


def test_what_is_listed_as_there_can_run() -> None:
    assert "onnxruntime" in available_backends()
    assert "onnxruntime-cuda" not in available_backends()
    with pytest.raises(
        BackendUnavailableError, match=r"uninstall it, then .*other backends here: openvino, onnxruntime"
    ):
        open_backend("onnxruntime-cuda")


def test_a_graph_that_fails_while_it_runs_is_a_backend_error(exported_bundle: Path) -> None:
    engine = open_backend("onnxruntime").load(
        Bundle.open(exported_bundle), IMAGE_ENCODER, precision="fp32", num_threads=None
    )
    with pytest.raises(BackendError, match="ONNX Runtime failed"):
        engine.run({"pixel_values": np.zeros((1, 3, 5, 5), np.float32)})


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_engines_send_nothing_and_leave_nothing_behind(exported_bundle: Path, tmp_path: Path, backend: str) -> None:
    """Their telemetry keeps an identity of the user in the home folder, and ONNX Runtime's also a temporary file."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    unset = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "T2D_CACHE_DIR": str(tmp_path / "cache")}
    code = (
        "import sys, t2d_runtime; t2d_runtime.Segmenter.open(sys.argv[1], backend=sys.argv[2]); "
        "assert 'openvino_telemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(exported_bundle), backend], env=environment, check=True)
    assert not [*home.iterdir(), *temporary.iterdir()]


def test_openvino_is_imported_for_a_user_without_a_home_folder() -> None:
    code = (
        "import os, pathlib, sys; os.environ.pop('HOME', None); "
        "pathlib.Path.home = lambda: exec('raise RuntimeError(\"no home folder\")'); "
        "from t2d_runtime.backends.registry import open_backend; print(open_backend('openvino').name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "openvino\n"


def test_the_telemetry_of_openvino_is_hidden_from_its_own_import_alone() -> None:
    code = (
        "import importlib.util as find, sys; from t2d_runtime.backends.openvino_module import openvino_module; "
        "openvino_module(); assert not hasattr(sys.modules['openvino.tools.ovc'].telemetry, 'consent'); "
        "print(find.find_spec('openvino_telemetry') is not None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{importlib.util.find_spec('openvino_telemetry') is not None}\n"
