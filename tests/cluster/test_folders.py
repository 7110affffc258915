"""Ray's temporary folders: one for each command, and none of a command that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from t2d_runtime.cluster.folders import LOCK, NEW_S, ray_folder

HOLD = """
from t2d_runtime.cluster.folders import ray_folder
with ray_folder() as folder:
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def parent(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        monkeypatch.setenv("TMPDIR", short)
        yield Path(short)


@pytest.fixture
def holder(parent: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], Path]]]:
    """Starts a process that holds a folder."""
    processes = []

    def start() -> tuple[subprocess.Popen[str], Path]:
        command = [sys.executable, "-c", HOLD]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def age(folder: Path) -> None:
    long_ago = time.time() - 2 * NEW_S
    os.utime(folder / LOCK, (long_ago, long_ago))


def test_a_folder_is_gone_after_its_block(parent: Path) -> None:
    with ray_folder() as folder:
        (folder / "logs").mkdir()
        assert folder.parent == parent
    assert list(parent.iterdir()) == []


def test_a_long_temporary_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 10)))
    with ray_folder() as folder:
        assert folder.parent == Path("/tmp")


def test_folders_of_killed_processes_are_removed(
    parent: Path, holder: Callable[[], tuple[subprocess.Popen[str], Path]]
) -> None:
    (killed, abandoned), (_, used), (gone, new) = holder(), holder(), holder()
    for process in (killed, gone):
        process.kill()
        process.wait()
    age(abandoned)
    age(used)
    with ray_folder() as folder:
        assert sorted(parent.iterdir()) == sorted([folder, used, new])
