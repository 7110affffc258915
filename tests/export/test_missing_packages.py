"""`t2d-export` where a package of its extra is missing: one line that says what to install."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from t2d_runtime.device.install import needs_extra
from t2d_runtime.errors import BackendUnavailableError, MissingPackageError

RUN_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from t2d_export.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("package", "command"), [("torch", "bundle"), ("onnx", "engine")])
def test_a_missing_package_is_one_line(package: str, command: str, tmp_path: Path) -> None:
    arguments = {
        "bundle": ["--backbone", "dinov2_vits14", "--output", str(tmp_path / "bundle")],
        "engine": [str(tmp_path), "--backend", "openvino"],
    }[command]
    done = run_without(package, command, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    extra = "engine" if command == "engine" else "export"
    install = f"in a checkout of t2d-runtime: pip install '.[{extra}]'"
    assert line == f"t2d-export: error: {package} is not installed; {install}"
    assert list(tmp_path.iterdir()) == []


def test_engines_are_built_where_pytorch_is_not_installed(bundle_copy: Path) -> None:
    done = run_without(
        "torch,torchvision,timm,open_clip,onnxscript", "engine", str(bundle_copy), "--backend", "openvino"
    )
    assert done.returncode == 0, done.stderr
    assert "fp32 for " in done.stdout
    assert len(list((bundle_copy / "engines").iterdir())) == 1


def run_without(packages: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`t2d-export` in a process where these packages, separated by commas, cannot be imported."""
    command = [sys.executable, "-c", textwrap.dedent(RUN_WITHOUT), packages, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_package_that_is_there_but_broken_says_why() -> None:
    message = r"libcudart.so.13: cannot open .*; in a checkout .*'.\[train\]'"
    with pytest.raises(MissingPackageError, match=message), needs_extra("train"):
        raise ImportError("libcudart.so.13: cannot open shared object file")


def test_faults_of_the_program_and_errors_that_say_more_stay_what_they_are() -> None:
    for error in (
        ModuleNotFoundError("No module named 't2d_export.absent'", name="t2d_export.absent"),
        ImportError("cannot import name 'absent'", name="t2d_runtime.bundle"),
        BackendUnavailableError("OpenVINO is not installed"),
    ):
        with pytest.raises(type(error)) as raised, needs_extra("export"):
            raise error
        assert raised.value is error
