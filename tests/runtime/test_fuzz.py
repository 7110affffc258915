"""A few damaged inputs of every kind, each time the same; `python -m tests.fuzz` runs as many as are wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from t2d_runtime.errors import ImageError
from tests.conftest import ROOT
from tests.fuzz import kinds
from tests.fuzz.campaign import run_input
from tests.fuzz.kinds import OF_THE_RUNTIME

INPUTS = 60


@pytest.mark.parametrize("kind", OF_THE_RUNTIME)
def test_damaged_inputs_give_a_result_or_an_error_of_our_own(kind: str, tmp_path: Path, exported_bundle: Path) -> None:
    outcomes = [run_input(kind, 1, index, tmp_path, exported_bundle) for index in range(INPUTS)]
    assert [outcome for outcome in outcomes if outcome.is_finding] == []
    assert len({outcome.status for outcome in outcomes} & {"result", "refused"}) == 2


def test_an_input_can_be_repeated(tmp_path: Path, exported_bundle: Path) -> None:
    once, again = (run_input("images", 3, 5, tmp_path, exported_bundle) for _ in range(2))
    assert once == again


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyError("x"), "traceback"), (ImageError("one\ntwo"), "traceback"), (ImageError("one"), "refused")],
)
def test_other_errors_are_findings(
    error: Exception, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising() -> None:
        raise error

    monkeypatch.setitem(kinds.KINDS, "words", lambda *_: raising)
    assert run_input("words", 0, 0, tmp_path, tmp_path).status == status


def test_the_campaign_counts_its_inputs(exported_bundle: Path) -> None:
    """In processes of its own, which end with a hang or a crash of one input."""
    # The checkout comes last, since the tested runtime may be installed elsewhere.
    program = "import runpy, sys; sys.path.append('.'); runpy.run_module('tests.fuzz', run_name='__main__')"
    options = ["--inputs", "20", "--kinds", "images,vocabularies", "--bundle", str(exported_bundle)]
    command = [sys.executable, "-P", "-c", program, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    images, vocabularies, last = done.stdout.splitlines()
    assert images.startswith("images: 10 inputs with seed 0: ")
    assert vocabularies.startswith("vocabularies: 10 inputs with seed 0: ")
    assert last == "0 findings"
