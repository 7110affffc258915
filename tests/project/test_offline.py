"""`scripts/offline.py`: wheels in pieces for a machine without internet. pip works on wheels made here, offline."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LARGE = 2_500_000
"""Bytes of random content: more than two pieces of 1 MB."""


def write_wheel(folder: Path, name: str, *, needs: str = "", size: int = 10, module: str = "") -> None:
    folder.mkdir(exist_ok=True)
    module = module or name.replace("-", "_")
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    files = {
        f"{module}/__init__.py": b"here = __file__\n",
        f"{module}/data.bin": os.urandom(size),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in files))


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder that stands for a package index: `thing` needs `part` and is large."""
    write_wheel(tmp_path / "index", "thing", needs="Requires-Dist: part\n", size=LARGE)
    write_wheel(tmp_path / "index", "part")
    return tmp_path / "index"


def offline(index: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    command = [sys.executable, str(ROOT / "scripts" / "offline.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_commands_of_the_documents_can_be_pasted() -> None:
    lines = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8").splitlines()
    given = [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("python scripts/offline.py")]
    assert given == [["make", "WHEELS", "--python", "3.12"], ["install", "WHEELS", "TARGET"]]


def test_wheels_go_in_pieces_and_are_whole_again(wheels: Path, tmp_path: Path) -> None:
    made, target = tmp_path / "made", tmp_path / "packages"
    done = offline(wheels, "make", made, "thing", "--python", PYTHON, "--piece-mb", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(path.stat().st_size for path in made.iterdir()) <= 10**6
    assert len(list(made.glob("thing-*"))) == 3
    assert "2 wheels" in done.stdout

    done = offline(wheels, "install", made, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"export PYTHONPATH={target}" in done.stdout
    where = "import thing, part; print(thing.here)"
    seen = subprocess.run(
        [sys.executable, "-c", where], env={"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True
    )
    assert Path(seen.stdout.strip()).is_relative_to(target)
    with zipfile.ZipFile(next(wheels.glob("thing*"))) as wheel:
        assert (target / "thing" / "data.bin").read_bytes() == wheel.read("thing/data.bin")

    again = offline(wheels, "install", made, target)
    assert (again.returncode, again.stderr) == (
        2,
        f"offline: error: {target} exists; remove it, or name another folder\n",
    )


def test_without_requirements_those_of_a_gpu_are_taken() -> None:
    needed = runpy.run_path(str(ROOT / "scripts" / "offline.py"))["needs"]()
    names = {re.split(r"[<>=]", need)[0] for need in needed}
    assert {"numpy", "tokenizers", "onnxruntime-gpu", "cuda-python", "nvidia-cuda-nvrtc"} <= names


def test_what_is_missing_or_damaged_is_named_and_nothing_is_installed(wheels: Path, tmp_path: Path) -> None:
    made, target = tmp_path / "made", tmp_path / "packages"
    assert offline(wheels, "make", made, "--alone", "thing", "--python", PYTHON, "--piece-mb", 1).returncode == 0
    assert not list(made.glob("part*"))
    first, second, _ = sorted(made.glob("thing-*"))
    first.unlink()
    second.write_bytes(b"other")
    done = offline(wheels, "install", made, target)
    assert done.returncode == 2
    assert f"missing {first.name}; damaged {second.name}; copy these files and run this again" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "made"]


def test_two_packages_of_one_module_are_refused(tmp_path: Path) -> None:
    index, made = tmp_path / "index", tmp_path / "made"
    for name in ("onnxruntime", "onnxruntime-gpu"):
        write_wheel(index, name, module="onnxruntime")
    assert offline(index, "make", made, "onnxruntime", "onnxruntime-gpu", "--python", PYTHON).returncode == 0
    done = offline(index, "install", made, tmp_path / "packages")
    assert done.returncode == 2
    assert "onnxruntime 1.0 and onnxruntime-gpu 1.0, which are one module" in done.stderr
    assert not (tmp_path / "packages").exists()


def test_another_onnxruntime_of_this_python_is_told(tmp_path: Path) -> None:
    index, made = tmp_path / "index", tmp_path / "made"
    write_wheel(index, "onnxruntime-gpu", module="onnxruntime")
    assert offline(index, "make", made, "onnxruntime-gpu", "--python", PYTHON).returncode == 0
    done = offline(index, "install", made, tmp_path / "packages")
    assert "This Python also has onnxruntime " in done.stdout
    assert "PYTHONPATH puts onnxruntime-gpu 1.0 before it" in done.stdout


def test_bad_input(wheels: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = offline(wheels, "make", made, "nothing-of-this-name", "--python", PYTHON)
    assert (done.returncode, made.exists()) == (2, False)
    assert done.stderr.endswith("offline: error: pip could not download the wheels, see its lines above\n")
    assert "expected at least 1" in offline(wheels, "make", made, "part", "--piece-mb", 0).stderr
    assert "expected a folder that 'make' has written" in offline(wheels, "install", wheels, made).stderr
    assert offline(wheels, "make", made, "part", "--python", PYTHON).returncode == 0
    assert "exists; name a new folder" in offline(wheels, "make", made, "part").stderr
    listed = json.loads((made / "offline.json").read_text())
    (made / "offline.json").write_text(json.dumps(listed | {"python": "3.9"}))
    done = offline(wheels, "install", made, tmp_path / "packages")
    assert f"was made for Python 3.9, this is {PYTHON}" in done.stderr
    shutil.rmtree(made)
