"""Runs that were broken off: the next one does what is missing, and no picture is in the dataset twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from t2d_runtime import Segmenter

from .conftest import arguments_of, damage, expected_rows, files_of, rows_of, started, write_scenes

PICTURES, IN_A_PART = 300, 4
PARTS = PICTURES // IN_A_PART


@pytest.fixture
def scenes(tmp_path: Path) -> list[Path]:
    """So many that a run goes on for long after its first parts."""
    return write_scenes(tmp_path / "in", PICTURES)


@pytest.fixture
def command(exported_bundle: Path, scenes: list[Path], tmp_path: Path) -> list[str | Path]:
    return arguments_of(exported_bundle, [scenes[0].parent], tmp_path / "out", "--rows-per-file", str(IN_A_PART))


def check_broken_off(output: Path) -> int:
    """Whole parts and nothing else; returns how many."""
    names = files_of(output)
    assert [name for name in names if not name.startswith("part-")] == []
    assert len(rows_of(output)) == IN_A_PART * len(names)
    return len(names)


def test_a_killed_worker_is_replaced_and_failed_pictures_are_done_again_if_told(
    command: list[str | Path], scenes: list[Path], segmenter: Segmenter, tmp_path: Path
) -> None:
    """The first run loses its worker, and later ends by Ctrl-C; the second does the rest."""
    output = tmp_path / "out"
    whole = scenes[1].read_bytes()
    damage(scenes[1])
    with started(*command) as run:
        run.wait_for(lambda: len(files_of(output)) > 1)
        (worker,) = run.workers()
        os.kill(worker, signal.SIGKILL)
        killed_at = len(files_of(output))
        run.wait_for(lambda: len(files_of(output)) > killed_at + 1 and worker not in run.workers())
        run.process.send_signal(signal.SIGINT)
        status, _, err = run.end()
        assert run.processes() == {}, (status, err)
    assert status == 130
    assert [line for line in err.splitlines() if " failed: " not in line] == ["t2d: interrupted"]
    assert 2 < check_broken_off(output) < PARTS
    scenes[1].write_bytes(whole)
    with started(*command, "--retry-failed") as run:
        status, out, err = run.end()
    assert (status, err) == (0, "")
    assert f"{PICTURES} pictures segmented; " in out
    assert f"; {PICTURES} in this run" not in out
    assert rows_of(output) == expected_rows(segmenter, scenes)


def test_after_a_killed_driver_and_sigterm_the_rest_is_done(
    command: list[str | Path], scenes: list[Path], segmenter: Segmenter, tmp_path: Path
) -> None:
    damage(scenes[31])
    output = tmp_path / "out"
    with started(*command) as run:
        run.wait_for(lambda: len(files_of(output)) > 2)
        run.process.kill()
        run.process.wait()
        with started(*command) as again:  # while Ray's processes of the first one may still be there
            again.wait_for(lambda: not run.workers() and again.workers())
            before = {name for name in files_of(output) if name.startswith("part-")}
            again.wait_for(lambda: len(files_of(output)) > len(before) + 1)
            again.process.send_signal(signal.SIGTERM)
            status, _, err = again.end()
            assert again.processes() == {}, (status, err)
    assert status == 143
    assert err.splitlines()[-1] == "t2d: terminated", err
    assert len(before) < check_broken_off(output) < PARTS
    with started(*command) as last:
        status, out, err = last.end()
        assert last.processes() == {}
    assert status == 1, err
    assert f"{PICTURES - 1} pictures segmented, 1 failed; " in out
    assert rows_of(output) == expected_rows(segmenter, scenes)
    assert before <= set(files_of(output))
    assert len(files_of(output)) == PARTS


def test_an_interrupted_start_leaves_nothing(command: list[str | Path], tmp_path: Path) -> None:
    with started(*command) as run:
        run.wait_for(lambda: any("/raylet/raylet " in line for line in run.processes().values()))
        run.process.send_signal(signal.SIGINT)
        status, _, err = run.end()
        assert run.processes() == {}, (status, err)
    assert (status, err) == (130, "t2d: interrupted\n")
    assert files_of(tmp_path / "out") == []
