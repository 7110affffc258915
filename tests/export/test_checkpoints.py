"""Checkpoint files are read without running anything from them, or refused in one clear line."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from t2d_export.weights.checkpoints import read_checkpoint
from t2d_runtime.errors import WeightsError, WeightsNotFoundError

TENSORS = {
    "visual.proj": torch.arange(6.0).reshape(2, 3),
    "ln.weight": torch.ones(3, dtype=torch.float16),
    "steps": torch.tensor(7),
}


class Scripted(torch.nn.Module):
    """Parameters, a transposed one, buffers, children in a list, and attributes that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.context_length = 77
        self.scale = torch.nn.Parameter(torch.randn(4, 6).half())
        self.turned = torch.nn.Parameter(torch.randn(3, 5).t())
        self.register_buffer("counts", torch.arange(4))
        self.blocks = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A TorchScript archive, as OpenAI publishes CLIP."""
    path = tmp_path / "ViT.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated: that is why such files are read as zip files
        torch.jit.save(torch.jit.script(Scripted()), path)
    return path


def assert_equal(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert got.keys() == expected.keys()
    assert all(got[key].dtype == value.dtype and torch.equal(got[key], value) for key, value in expected.items())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_files_of_torch_save(tmp_path: Path, legacy: bool, wrapper: str | None) -> None:
    path = tmp_path / "weights.pth"
    content = TENSORS if wrapper is None else {"epoch": 3, wrapper: TENSORS, "optimizer": {}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert_equal(read_checkpoint(path), TENSORS)


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "weights.safetensors")
    assert_equal(read_checkpoint(tmp_path / "weights.safetensors"), TENSORS)


def test_script_archives_are_read_as_zip_files(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.jit.load(archive).state_dict()
    monkeypatch.delattr(torch.jit, "load")
    assert_equal(read_checkpoint(archive), dict(expected))


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "it_ran"
    torch.save({"weight": torch.ones(1), "extra": Malicious(trace)}, path)
    with pytest.raises(WeightsError, match="nothing else is unpickled"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    with pytest.raises(WeightsError, match="nothing else is unpickled"):
        read_checkpoint(path)
    assert not trace.exists()


def rewritten(archive: Path, replaced: dict[str, bytes]) -> Path:
    """The archive with other content under some names."""
    target = archive.with_name("rewritten.pt")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, replaced.get(name.partition("/")[2], old.read(name)))
    return target


def test_a_script_archive_that_runs_code_is_refused(archive: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it_ran"
    path = rewritten(archive, {"data.pkl": pickle.dumps(Malicious(trace))})
    with pytest.raises(WeightsError, match=r"posix.mkdir is neither a module nor a tensor"):
        read_checkpoint(path)
    assert not trace.exists()


def test_a_script_archive_with_a_short_storage_is_refused(archive: Path) -> None:
    with pytest.raises(WeightsError, match="truncated or damaged"):
        read_checkpoint(rewritten(archive, {"data/0": b"\0\0"}))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "ViT.pt"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_are_refused(archive: Path, tmp_path: Path, name: str, share: float) -> None:
    torch.save(TENSORS, tmp_path / "weights.pth")
    save_file(TENSORS, tmp_path / "weights.safetensors")
    content = (tmp_path / name).read_bytes()
    path = tmp_path / f"cut_{name}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=f"{path.name} is truncated"):
        read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_with_changed_bytes_are_read_or_refused(tmp_path: Path, legacy: bool) -> None:
    """torch's reader meets such bytes with errors of a dozen kinds, and with warnings."""
    path = tmp_path / "weights.pth"
    torch.save({"model": TENSORS, "epoch": 3}, path, _use_new_zipfile_serialization=not legacy)
    intact = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(intact)
        for place in random.integers(0, len(content), random.integers(1, 5)):
            content[place] = random.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(WeightsError):
            read_checkpoint(path)


@pytest.mark.parametrize("name", ["notes.pth", "notes.safetensors", "notes.pt"])
@pytest.mark.parametrize("content", [b"not a checkpoint at all", b""])
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_checkpoint(tmp_path / name)


def test_files_without_tensors_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"epoch": 3}, buffer)
    (tmp_path / "empty.pth").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "empty.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "list.pth")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=r"absent.pth is no file"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path)
