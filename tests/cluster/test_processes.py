"""The end of all processes below this one, also of those that are being started."""

from __future__ import annotations

import subprocess
import time

from t2d_runtime.cluster.processes import _is_alive, descendants, end_all, watched

STARTING = "while :; do sleep 60 & sleep 0.01; done"


def test_all_end_while_more_are_started() -> None:
    others = descendants()
    with subprocess.Popen(["sleep", "60"]) as kept:
        before = descendants()
        assert len(before - others) == 1
        with subprocess.Popen(["sh", "-c", STARTING]) as starting:
            while len(descendants() - before) < 6:
                time.sleep(0.01)
            end_all(set(), before, 0)
            assert starting.wait() == -9
        assert descendants() == before
        assert kept.poll() is None
        kept.kill()


def test_processes_may_end_by_themselves() -> None:
    before = descendants()
    with subprocess.Popen(["sh", "-c", "sleep 0.1; exit 3"]) as process:
        end_all(set(), before, 60)
        assert process.wait() == 3


def test_one_that_lost_its_parent_ends_too() -> None:
    before = descendants()
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"]) as process:
        while len(known := descendants() - before) < 2:
            time.sleep(0.01)
        process.kill()
        process.wait()
        end_all(known, before, 0)
    assert [one for one in known if _is_alive(one)] == []


def test_one_that_begins_and_loses_its_parent_meanwhile_is_known() -> None:
    before = descendants()
    with (
        watched(before) as known,
        subprocess.Popen(["sh", "-c", "sleep 0.5; sleep 60 & sleep 0.5; kill -9 $$"]) as shell,
    ):
        shell.wait()
    left = [one for one in known if _is_alive(one)]
    assert len(left) == 1
    end_all(known, before, 0)
    assert [one for one in known if _is_alive(one)] == []
