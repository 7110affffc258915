"""`t2d cluster` without its extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from t2d_runtime.cli import main


@pytest.mark.parametrize("missing", ["pyarrow", "ray"])
def test_the_missing_extra_is_named_with_the_command(
    exported_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    command = ["cluster", str(exported_bundle), str(tmp_path), "--output", str(tmp_path / "out"), "--classes", "sky"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert " is not installed; in a checkout of t2d-runtime: pip install '.[cluster]'" in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
