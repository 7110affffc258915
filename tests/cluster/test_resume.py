"""Runs that were broken off: the next one does what is missing, and no picture is in the dataset twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from t2d_runtime import Segmenter

from .conftest import arguments_of, damage, expected_rows, files_of, rows_of, started, write_scenes


@pytest.fixture
def scenes(tmp_path: Path) -> list[Path]:
    paths = write_scenes(tmp_path / "in", 60)
    damage(paths[31])
    return paths


@pytest.fixture
def command(exported_bundle: Path, scenes: list[Path], tmp_path: Path) -> list[str | Path]:
    return arguments_of(exported_bundle, [scenes[0].parent], tmp_path / "out", "--rows-per-file", "4")


def test_a_killed_worker_is_replaced(
    command: list[str | Path], scenes: list[Path], segmenter: Segmenter, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with started(*command) as run:
        run.wait_for(lambda: len(files_of(output)) > 2)
        (worker,) = run.workers()
        os.kill(worker, signal.SIGKILL)
        status, out, err = run.end()
        assert run.processes() == {}
    assert status == 1, err
    assert "59 pictures segmented, 1 failed; 60 in this run" in out
    assert rows_of(output) == expected_rows(segmenter, scenes)
    assert len(files_of(output)) == 15


def test_after_a_killed_driver_the_rest_is_done(
    command: list[str | Path], scenes: list[Path], segmenter: Segmenter, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with started(*command) as run:
        run.wait_for(lambda: len(files_of(output)) > 2)
        run.process.kill()
        run.process.wait()
        before = files_of(output)
        with started(*command) as again:
            status, out, err = again.end()
            assert again.processes() == {}
    assert status == 1, err
    assert "59 pictures segmented, 1 failed; " in out
    assert "; 60 in this run" not in out
    assert rows_of(output) == expected_rows(segmenter, scenes)
    assert set(before) - {name for name in before if name.startswith(".")} <= set(files_of(output))
    assert len(files_of(output)) == 15


@pytest.mark.parametrize(
    ("end", "status", "told"), [(signal.SIGINT, 130, "t2d: interrupted\n"), (signal.SIGTERM, 143, "t2d: terminated\n")]
)
def test_an_interrupt_leaves_whole_parts_and_no_process(
    command: list[str | Path], tmp_path: Path, end: signal.Signals, status: int, told: str
) -> None:
    output = tmp_path / "out"
    with started(*command) as run:
        run.wait_for(lambda: len(files_of(output)) > 2)
        run.process.send_signal(end)
        ended, _, err = run.end()
        assert (ended, err) == (status, told)
        assert run.processes() == {}
    assert all(name.startswith("part-") for name in files_of(output))
    assert len(rows_of(output)) % 4 == 0
