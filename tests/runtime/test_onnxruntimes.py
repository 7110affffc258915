"""Two packages of one module: which mixes are wrong, and their repair."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from t2d_runtime.device.onnxruntimes import conflict

PIP = f"{sys.executable} -m pip"


def installed(folder: Path, *names: str, module: bool = True) -> str:
    """A folder of packages, as pip leaves it."""
    for name in names:
        info = folder / f"{name.replace('-', '_')}-1.30.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.30.0\n")
    if module:
        (folder / "onnxruntime").mkdir()
        (folder / "onnxruntime" / "__init__.py").touch()
    return str(folder)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)


def test_two_in_one_folder_overwrite_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [installed(tmp_path, "onnxruntime", "onnxruntime-gpu")])
    told, *repair = conflict()
    assert told == "onnxruntime and onnxruntime-gpu are both installed and overwrite each other. To repair:"
    assert repair[0] == f"  {PIP} uninstall -y onnxruntime onnxruntime-gpu"
    assert repair[1].startswith("  then in a checkout of t2d-runtime: pip install '.[gpu]'")


def test_files_that_went_with_the_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [installed(tmp_path, "onnxruntime-gpu", module=False)])
    told, repair = conflict()
    assert told.startswith("onnxruntime-gpu is installed, but its files are gone")
    assert repair == f"  {PIP} install --force-reinstall --no-deps onnxruntime-gpu==1.30.0"


def test_of_two_folders_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried = installed(tmp_path / "carried", "onnxruntime-gpu")
    own = installed(tmp_path / "own", "onnxruntime")
    monkeypatch.setattr(sys, "path", [carried, own])
    assert list(conflict()) == []
    monkeypatch.setattr(sys, "path", [own, carried])
    assert list(conflict()) == [
        f"onnxruntime in {own} hides onnxruntime-gpu in {carried}: put that folder first on PYTHONPATH"
    ]


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
def test_one_alone_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "path", [installed(tmp_path, name)])
    assert list(conflict()) == []
