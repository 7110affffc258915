"""The benchmark of a GPU without one: scripted machines and processes, and each task on the CPU instead."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks.gpu import child, command, running, torch_side
from benchmarks.gpu import found as found_module
from benchmarks.gpu.found import GPU_BACKENDS, Found, find
from benchmarks.gpu.running import Outcome, in_process
from benchmarks.gpu.stages import TORCH_KINDS, Stage
from benchmarks.gpu.tables import blocks
from benchmarks.report.results import Results
from benchmarks.timing import in_turn
from t2d_runtime.backends import onnxruntime as onnxruntime_backend
from t2d_runtime.backends import onnxruntime_session
from t2d_runtime.backends.on_device import BoundSession, device_ms
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeGpuEngine
from t2d_runtime.bundle.files import IMAGE_ENCODER, Bundle
from t2d_runtime.bundle.manifest import sealed
from t2d_runtime.device.arrays import CudaArray
from t2d_runtime.errors import BackendError, BackendUnavailableError, OptionError
from t2d_runtime.masks import postprocess
from t2d_runtime.masks.cuda.postprocess import DeviceMasks
from t2d_runtime.masks.pamr.choice import loops_here
from tests.runtime.cuda_on_cpu import HostCuda

TINY = str(Path(__file__).parents[2] / "models" / "tiny")
GPU = "NVIDIA Something, compute capability 8.9"
WHOLE = Found(GPU, "580.1", None, {"torch": "2.11.0", "onnxruntime-gpu": "1.31.1"})
SOME = Found(GPU, "580.1", None, {"torch": "2.11.0"}, dict.fromkeys(GPU_BACKENDS[1:], "install it"))


def run(given: list[str], machine: Found, runner: Callable[[Stage, float], Outcome], clock: Any = None) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(given), lambda: machine, runner, **({"clock": clock} if clock else {}))


def saved(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())["figures"])


class Machine:
    """Answers of a GPU that does everything, in seconds of a clock of its own; some stages end otherwise."""

    def __init__(self, json_file: Path, **endings: Outcome) -> None:
        self.now = 0.0
        self.stages: list[Stage] = []
        self.limits: list[float] = []
        self.took = 5.0
        self._file, self._endings = json_file, endings

    def clock(self) -> float:
        return self.now

    def __call__(self, stage: Stage, limit: float) -> Outcome:
        run_so_far = [row for row in saved(self._file)["rows"] if row["status"] != "not run"]
        assert len(run_so_far) == len(self.stages), "rows are saved after each stage"
        self.stages.append(stage)
        self.limits.append(limit)
        self.now += min(self.took, limit)
        for part, ending in self._endings.items():
            if part in stage.name.replace(" ", "_").replace("-", "_"):
                return ending
        stages = [{"stage": "x", "passed": True, "measure": "max_abs_diff", "max_abs_diff": 1.0, "tolerance": 4.0}]
        figures: dict[str, dict[str, Any]] = {
            "selftest": {"stages": stages},
            "latency": {"batch_ms": {"1": 2.0, "4": 4.0}, "windows_per_second": 1000.0, "memory_bytes": 2**30},
            "image": {"encode_ms": 3.0, "host_ms": 40.0, "device_ms": 5.0, "labels_equal": 1.0},
        }
        of_task = figures.get(stage.task.removeprefix("torch_"), {})
        return Outcome(("a library says something", json.dumps(of_task)), None)


def test_without_a_gpu_it_says_so_and_saves_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = Found(None, None, "no NVIDIA GPU answers (no nvidia-smi)", {"torch": "2.14"}, {"tensorrt": "install it"})

    def never(stage: Stage, limit: float) -> Outcome:
        raise RuntimeError("nothing is run")

    assert run(["--json", str(tmp_path / "gpu.json")], found, never) == 0
    printed = capsys.readouterr().out
    assert "No GPU: no NVIDIA GPU answers" in printed
    assert "not here: tensorrt: install it" in printed
    assert saved(tmp_path / "gpu.json")["found"]["packages"] == {"torch": "2.14"}
    assert Results(tmp_path).read("gpu").command == "gpu"


def test_this_machine_is_looked_at() -> None:
    found = find()
    assert (found.gpu is None) == (found.missing is not None)
    assert found.packages["torch"] == torch.__version__.partition("+")[0] or "+" in found.packages["torch"]


def test_every_backend_and_precision_is_a_row(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path / "gpu.json")
    assert run([str(exported_bundle), "--json", str(tmp_path / "gpu.json")], WHOLE, machine, machine.clock) == 0
    rows = saved(tmp_path / "gpu.json")["rows"]
    pairs = {(row["subject"], row["precision"]) for row in rows}
    wanted = {(backend, precision) for backend in GPU_BACKENDS for precision in ("fp32", "fp16", "bf16", "int8")}
    assert pairs == wanted | {("GPU", "fp32")} | {("PyTorch", kind) for kind in TORCH_KINDS}
    assert {row["status"] for row in rows} == {"done"}
    builds = [stage for stage in machine.stages if stage.task == "build"]
    assert {stage.arguments["capability"] for stage in builds} == {"8.9"}
    assert not any(str(exported_bundle) == stage.arguments["bundle"] for stage in builds), "engines go into a copy"
    assert machine.now <= 60 * command.MINUTES
    printed = capsys.readouterr().out
    assert "1 of 1 within tolerance, at most 25% of it" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("onnxruntime-cuda fp16, CUDA graph")]
    assert line.split()[-4:] == ["2.00", "4.00", "1000", "1024"]
    assert "| image encoder, batch 1, ms | " in printed
    assert "not run" not in printed


def test_failures_are_rows_and_the_rest_goes_on(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Outcome(('{"batch_ms": {"1": 2.5}}', '{"batch_ms": {"1": 2.5, "4'), "ended by SIGSEGV: no message")
    machine = Machine(
        tmp_path / "gpu.json",
        **{
            "onnxruntime_cuda_fp32:_latency": crash,
            "tensorrt_fp16:_build": Outcome((), f"ExportError: no such layer{' and more' * 50}"),
            "tensorrt_rtx_fp32:_self": Outcome(('{"error": "patch_tokens: 0.3, tolerance 0.1", "stages": []}',), None),
        },
    )
    assert run([str(exported_bundle), "--json", str(tmp_path / "gpu.json")], WHOLE, machine, machine.clock) == 1
    rows = {row["name"]: row for row in saved(tmp_path / "gpu.json")["rows"]}
    crashed = rows["onnxruntime-cuda fp32: latency"]
    assert (crashed["status"], crashed["error"]) == ("failed", "ended by SIGSEGV: no message")
    assert crashed["figures"] == {"batch_ms": {"1": 2.5}}
    assert rows["tensorrt fp16: latency"]["error"] == "its build: failed"
    assert rows["tensorrt fp16: latency"]["status"] == "not run"
    assert rows["tensorrt fp32: latency"]["status"] == "done"
    assert rows["tensorrt-rtx fp32: self-test"]["error"] == "patch_tokens: 0.3, tolerance 0.1"
    assert rows["PyTorch fp16 compiled: latency"]["status"] == "done"
    printed = capsys.readouterr().out
    assert "onnxruntime-cuda fp32: latency: failed after 5 s: ended by SIGSEGV: no message; batch 1 2.50 ms" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("tensorrt fp16: build  ")]
    assert len(line.strip()) < 250
    assert "| **not run** or failed | " in printed


def test_time_is_shared_out_and_what_does_not_fit_is_not_run(exported_bundle: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "gpu.json")
    machine.took = 1e9  # every stage hangs until its limit
    given = [str(exported_bundle), "--json", str(tmp_path / "gpu.json"), "--minutes", "3"]
    run(given, SOME, machine, machine.clock)
    assert machine.now <= 180
    rows = saved(tmp_path / "gpu.json")["rows"]
    assert rows[-1]["error"] == "no time left"
    assert rows[-1]["status"] == "not run"
    assert len(machine.limits) >= 5
    assert max(machine.limits) < 90
    assert min(machine.limits) >= running.LEAST_S
    with pytest.raises(OptionError, match=r"--minutes is 0\.0, expected more than 0"):
        run(["--minutes", "0"], SOME, machine)


ESTIMATES = {"export": 90.0, "masks": 14.0, "torch_latency compiled": 80.0}
"""Seconds of a stage on 16 cores and a large GPU; others take 12."""


@pytest.mark.parametrize("export_s", [90.0, 150.0])
def test_every_row_is_reached_in_the_default_time(exported_bundle: Path, tmp_path: Path, export_s: float) -> None:
    machine = Machine(tmp_path / "gpu.json")
    took = ESTIMATES | {"export": export_s}

    def runner(stage: Stage, limit: float) -> Outcome:
        if stage.task == "export":
            bundle = Path(shutil.copytree(exported_bundle, stage.arguments["output"]))
            leave_out(bundle / "manifest.json", "int8", "segmenter")
            machine.now += took["export"]
            machine.stages.append(stage)
            return Outcome((), None)
        machine.took = took.get(f"{stage.task}{' compiled' * ('compiled' in stage.precision)}", 12.0)
        return machine(stage, limit)

    assert run(["--json", str(tmp_path / "gpu.json")], SOME, runner, machine.clock) == 0
    rows = saved(tmp_path / "gpu.json")["rows"]
    assert [row["name"] for row in rows if row["status"] == "not run"] == []
    assert machine.now <= 60 * command.MINUTES
    order = [stage.name for stage in machine.stages]
    wanted = ["GPU fp32: masks", "onnxruntime-cuda fp16: self-test", "onnxruntime-cuda fp32: self-test"]
    wanted += ["PyTorch fp16: latency", "PyTorch fp16: image to labels", "onnxruntime-cuda bf16: self-test"]
    wanted += ["PyTorch fp16 compiled: latency", "PyTorch fp32 compiled: latency"]
    assert [name for name in order if name in wanted] == wanted
    assert [stage.arguments["batches"] for stage in machine.stages if "compiled" in stage.name] == [[1, 16]] * 2
    assert machine.limits[1] > 2 * machine.limits[2], "the first engine reads its libraries"
    assert min(machine.limits[:-1]) >= running.FLOOR_S


def leave_out(manifest: Path, *parts: str) -> None:
    """Take files with such parts in their names out of a bundle's manifest: the default export lacks them."""
    content = json.loads(manifest.read_text())
    files = content["files"].items()
    content["files"] = {name: record for name, record in files if not any(part in name for part in parts)}
    manifest.write_text(sealed(content))


def test_without_a_bundle_one_is_exported(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path / "gpu.json", export=Outcome((), "ImportError: No module named 'open_clip'"))
    assert run(["--json", str(tmp_path / "gpu.json")], SOME, machine, machine.clock) == 1
    (row,) = saved(tmp_path / "gpu.json")["rows"]
    assert row["error"] == "ImportError: No module named 'open_clip'"
    assert machine.limits[0] <= 60 * command.MINUTES * command.EXPORT_SHARE
    assert "open_clip" in capsys.readouterr().out

    def export(stage: Stage, limit: float) -> Outcome:
        if stage.task == "export":
            Path(stage.arguments["output"]).symlink_to(exported_bundle, target_is_directory=True)
            return Outcome((), None)
        return machine(stage, limit)

    machine.stages = [Stage("", "", "", "")]  # the exported row is there already
    assert run(["--json", str(tmp_path / "gpu.json")], SOME, export, machine.clock) == 0
    assert saved(tmp_path / "gpu.json")["rows"][0]["what"] == "export"


def test_a_process_that_crashes_hangs_or_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\ncase $3 in\n"
        "crash) echo '{\"a\": 1}'; echo 'out of luck' >&2; kill -SEGV $$ ;;\n"
        "hang) echo '{\"a\": 1}'; echo compiling >&2; sleep 60 & sleep 60 ;;\n"
        "fail) echo 'Warning: x' >&2; echo 'ValueError: wrong' >&2; exit 1 ;;\n"
        "*) echo '{\"a\": 2}' ;;\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    limits = {"crash": 20.0, "hang": 0.5, "fail": 20.0, "": 20.0}
    ends = {task: in_process(Stage("", "", "", task), limit) for task, limit in limits.items()}
    assert ends["crash"] == Outcome(('{"a": 1}',), "ended by SIGSEGV: out of luck")
    assert ends["hang"] == Outcome(('{"a": 1}',), "not done after 0 s: compiling")
    assert ends["fail"] == Outcome((), "ValueError: wrong")
    assert ends[""] == Outcome(('{"a": 2}',), None)


def figures_of(task: Iterator[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for figures in task:
        json.dumps(figures)
        found |= figures
    return found


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (child, torch_side):
        monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(child, "LONG_S", 0.0)
    monkeypatch.setattr(torch_side, "DEVICE", "cpu")
    monkeypatch.setattr(torch_side, "cuda_in_turn", in_turn)


class HostMasks:
    """The host's masks in place of a GPU's."""

    identity = ("host",)
    label_map_of = staticmethod(postprocess.label_map_of)


@pytest.mark.usefixtures("brief")
def test_tasks_of_a_bundle(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeviceMasks, "open", classmethod(lambda cls: HostMasks()))
    opening = {"bundle": str(exported_bundle), "backend": "onnxruntime", "precision": "fp32"}
    found = figures_of(child.selftest(**opening))
    assert len(found["stages"]) > 10
    assert "error" not in found
    found = figures_of(child.image(**opening))
    assert found["labels_equal"] == 1
    assert "features_through_host_ms" not in found
    assert found["host_loops"] == loops_here()
    assert list(found).index("device_ms") < list(found).index("host_ms"), "a limit of time costs the slow host first"
    assert min(found["encode_ms"], found["host_ms"], found["device_ms"]) > 0
    found = figures_of(child.masks(str(exported_bundle)))
    measured = [key for key in found if key.endswith("_ms") and key != "open_ms"]
    assert measured == ["device_with_pamr_ms", "device_plain_ms", "host_with_pamr_ms", "host_plain_ms"]
    assert found["host_loops"] == loops_here()
    assert [stage["stage"] for stage in found["stages"]] == ["upsampled", "refined", "stitched", "label_map"]
    found = figures_of(child.fused(**opening))
    assert found["device_ms"] > 0
    assert "error" not in found


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("right", [True, False])
def test_features_that_stay_on_the_device_are_compared_and_their_row_goes_on(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    monkeypatch.setattr(DeviceMasks, "open", classmethod(lambda cls: HostMasks()))
    monkeypatch.setattr(OnnxRuntimeGpuEngine, "memory_name", "cpu")
    monkeypatch.setattr(onnxruntime_session, "Cuda", HostCuda)
    monkeypatch.setattr(onnxruntime_backend, "OnnxRuntimeEngine", OnnxRuntimeGpuEngine)
    if not right:
        monkeypatch.setattr(CudaArray, "to_host", lambda self: np.zeros(self.shape, np.float32))
    found = figures_of(child.image(str(exported_bundle), "onnxruntime", "fp32"))
    assert found["features_through_host_ms"] > 0
    assert ("patch_tokens left there" in found.get("error", "")) is not right
    assert min(found["host_ms"], found["device_ms"]) > 0


@pytest.mark.usefixtures("brief")
def test_without_masks_on_the_device_those_of_the_host_are_timed(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(cls: type[DeviceMasks]) -> DeviceMasks:
        raise BackendUnavailableError("cuda-python is not installed")

    monkeypatch.setattr(DeviceMasks, "open", classmethod(missing))
    found = figures_of(child.image(str(exported_bundle), "onnxruntime", "fp32"))
    assert found["error"] == "cuda-python is not installed"
    assert found["host_ms"] > 0
    assert "device_ms" not in found


def test_what_is_absent_or_hidden_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_module, "installed_version", lambda name: "1.31.1" if name == "onnxruntime-gpu" else None)
    monkeypatch.setattr(found_module, "has_tensorrt", lambda: False)
    monkeypatch.setattr(found_module, "conflict", lambda: iter(["one hides the other: put it first"]))
    here = find()
    assert "TensorRT's libraries" in here.absent["onnxruntime-tensorrt"]
    assert "onnxruntime-cuda" not in here.absent
    assert "one hides the other: put it first" in blocks({"found": asdict(here) | {"gpu": GPU}, "rows": []})
    monkeypatch.setattr(found_module, "has_tensorrt", lambda: True)
    assert "onnxruntime-tensorrt" not in find().absent


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("kind", ["fp32", "fp16"])
def test_tasks_of_pytorch(exported_bundle: Path, kind: str) -> None:
    size = list(Bundle.open(exported_bundle).manifest.model.input_size)
    made = {"backbone": TINY, "size": size, "batches": [1, 2], "kind": kind, "bundle": str(exported_bundle)}
    found = figures_of(torch_side.torch_latency(**made))
    assert list(found["batch_ms"]) == ["1", "2"]
    assert figures_of(torch_side.torch_image(**made))["device_ms"] > 0


def test_a_bound_session_computes_what_a_plain_one_does(exported_bundle: Path) -> None:
    bundle, cuda = Bundle.open(exported_bundle), HostCuda()
    backend = OnnxRuntimeBackend("onnxruntime")
    bound = BoundSession(backend, bundle, IMAGE_ENCODER, cuda, precision="fp32", device="cpu")  # type: ignore[arg-type]
    values = np.random.default_rng(0).normal(0, 1, (2, 3, *bundle.manifest.model.input_size)).astype(np.float32)
    call = bound.bind({"pixel_values": values})
    assert device_ms(cuda, bound.stream, call, 2, warm_up=1) == [1.5, 1.5]  # type: ignore[arg-type]
    outputs = list(cuda.memory.values())[1:]
    plain = onnxruntime.InferenceSession(bundle.graph(IMAGE_ENCODER), providers=["CPUExecutionProvider"])
    expected = plain.run(None, {"pixel_values": values})
    for block, array in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(np.frombuffer(block, np.float32).reshape(array.shape), array, rtol=0, atol=1e-5)
    bound.close()
    assert not cuda.memory


def test_batches_until_one_fails() -> None:
    def time_batch(batch: int) -> list[float]:
        if batch > 4:
            raise BackendError("out of memory\nsecond line")
        return [2.0, 4.0, 3.0]

    *_, last = lines = list(child.over_batches([1, 4, 16, 64], time_batch, lambda: 5))
    assert last == {"error": "batch 16: out of memory"}
    rate = pytest.approx(4000 / 3)
    assert lines[1] == {"batch_ms": {"1": 3.0, "4": 3.0}, "windows_per_second": rate, "memory_bytes": 5}


def test_the_child_prints_figures_and_the_error_last(capsys: pytest.CaptureFixture[str], exported_bundle: Path) -> None:
    given = {"bundle": str(exported_bundle), "backend": "onnxruntime", "precision": "bf16"}
    assert child.main(["selftest", json.dumps(given)]) == 1
    assert capsys.readouterr().err.startswith("BackendError: ONNX Runtime's CPU provider has no bfloat16 kernels")
