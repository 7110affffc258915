"""What is asked of an NVIDIA driver, scripted: no GPU is needed, and none is proved here."""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from t2d_runtime.device import nvidia
from t2d_runtime.device.nvidia import driver_version, gpu, has_tensorrt, load_libraries
from t2d_runtime.errors import BackendUnavailableError

CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC\nGCC version:  gcc 13.3"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)\n"


class Driver:
    """libcuda with one GPU."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing

    def __getattr__(self, function: str) -> Any:
        def call(*arguments: Any) -> int:
            match function:
                case "cuGetErrorName":
                    arguments[1]._obj.value = b"CUDA_ERROR_NO_DEVICE"
                case "cuDeviceGet":
                    arguments[0]._obj.value = 3 if arguments[1] == 0 else -1
                case "cuDeviceGetName":
                    assert (arguments[1], arguments[2].value) == (256, 3)
                    arguments[0].value = b"NVIDIA H200"
                case "cuDriverGetVersion":
                    arguments[0]._obj.value = 13000
                case "cuDeviceGetAttribute":
                    assert arguments[2].value == 3
                    arguments[0]._obj.value = {75: 9, 76: 0}[arguments[1]]
            return 100 if function == self.failing else 0

        return call


def give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: Any, told: str | None) -> None:
    """Let a driver and its note in /proc stand for the machine's; nvidia-smi is missing."""
    if told is not None:
        (tmp_path / "version").write_text(told)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr(nvidia, "KERNEL_MODULE", tmp_path / "version")
    monkeypatch.setattr(nvidia, "QUERY", ("no-such-program",))


@pytest.mark.parametrize(
    ("told", "version"), [(CLOSED, "580.95.05"), (OPEN, "580.65.06"), ("?", "of CUDA 13.0"), (None, "of CUDA 13.0")]
)
def test_the_driver_says_which_gpu_is_visible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str | None, version: str
) -> None:
    give(monkeypatch, tmp_path, Driver(), told)
    assert gpu() == ("NVIDIA H200, compute capability 9.0", version)


def test_where_linux_does_not_tell_the_version_nvidia_smi_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 581.42\n")
    program.chmod(0o755)
    monkeypatch.setattr(nvidia, "KERNEL_MODULE", tmp_path / "none")
    monkeypatch.setattr(nvidia, "QUERY", (str(program),))
    assert driver_version(13000) == "581.42"


def test_a_gpu_that_does_not_answer_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give(monkeypatch, tmp_path, Driver("cuInit"), CLOSED)
    with pytest.raises(BackendUnavailableError, match=r"cuInit gives 100: CUDA_ERROR_NO_DEVICE\); see 'nvidia-smi'"):
        gpu()
    monkeypatch.undo()
    monkeypatch.setattr(nvidia, "DRIVER", "no-such-library.so")
    with pytest.raises(BackendUnavailableError, match=r"no NVIDIA GPU answers \(.*no-such-library.*\); install"):
        gpu()


def test_libraries_of_packages_are_loaded_in_the_order_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places = {"nvidia": tmp_path / "nvidia", "tensorrt_libs": tmp_path / "tensorrt_libs"}
    for name in ("nvidia/cu13/lib/libcudart.so.13", "tensorrt_libs/libnvinfer.so.10", "tensorrt_libs/other.so"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: loaded.append(Path(path).name))
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(
        nvidia.importlib.util,
        "find_spec",
        lambda name: SimpleNamespace(submodule_search_locations=[str(places[name])]) if name in places else None,
    )
    load_libraries(("nvinfer", "cudart", "cublas"))
    assert loaded == ["libnvinfer.so.10", "libcudart.so.13"]
    assert has_tensorrt()
    del places["tensorrt_libs"]
    assert not has_tensorrt()
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.10")
    assert has_tensorrt()
