"""`t2d triton` without its extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from t2d_runtime.cli import main


def test_the_missing_extra_is_named_with_the_command(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    monkeypatch.delitem(sys.modules, "t2d_runtime.serving.triton.configs", raising=False)
    assert main(["triton", str(exported_bundle), "--output", str(tmp_path / "repository")]) == 2
    told = capsys.readouterr().err
    assert "pip install '.[triton]'" in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
