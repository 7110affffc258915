"""How many threads engines and PAMR take where a call names no number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from t2d_runtime import Segmenter
from t2d_runtime.device.threads import (
    VARIABLE,
    available_cores,
    checked_num_threads,
    cpu_quota,
    default_num_threads,
    warn_of_many,
)
from t2d_runtime.errors import OptionError


def groups(folder: Path, own: str, **limits: str) -> tuple[Path, Path]:
    """A tree of control groups: `limits` are files' contents, a path with / for __."""
    for name, text in limits.items():
        path = folder / "groups" / name.replace("__", "/").replace("_max", ".max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "groups").mkdir(exist_ok=True)
    (folder / "own").write_text(own)
    return folder / "groups", folder / "own"


def test_a_quota_is_found_in_any_group_around_the_process(tmp_path: Path) -> None:
    tree = groups(
        tmp_path, "0::/a/b\n", cpu_max="max 100000\n", a__cpu_max="250000 100000\n", a__b__cpu_max="max 100000"
    )
    assert cpu_quota(*tree) == 3


def test_the_least_quota_counts(tmp_path: Path) -> None:
    tree = groups(tmp_path, "0::/a\n", cpu_max="400000 100000\n", a__cpu_max="50000 100000\n")
    assert cpu_quota(*tree) == 1


def test_quotas_of_version_1(tmp_path: Path) -> None:
    folder, own = groups(tmp_path, "4:memory:/m\n3:cpu,cpuacct:/c\n")
    (folder / "cpu" / "c").mkdir(parents=True)
    (folder / "cpu" / "c" / "cpu.cfs_quota_us").write_text("200000\n")
    (folder / "cpu" / "c" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(folder, own) == 2
    (folder / "cpu" / "c" / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(folder, own) is None


@pytest.mark.parametrize("text", ["", "max 100000", "nonsense", "1 0", "a b c"])
def test_no_quota(text: str, tmp_path: Path) -> None:
    assert cpu_quota(*groups(tmp_path, "0::/\n", cpu_max=text)) is None
    assert cpu_quota(tmp_path / "none", tmp_path / "none") is None


def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, " 7 ")
    assert (available_cores(), default_num_threads()) == (7, 7)
    monkeypatch.setenv(VARIABLE, "")
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "8193"])
def test_another_value_is_refused(value: str, exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(OptionError, match=f"T2D_NUM_THREADS is '{value}', expected a whole number from 1 to 8192"):
        Segmenter.open(exported_bundle, backend="onnxruntime")


def test_more_threads_than_cores_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    many = 7 + max(available_cores(), os.cpu_count() or 1)
    warn_of_many.cache_clear()
    for _ in range(2):
        assert checked_num_threads(many) == many
        assert checked_num_threads(1) == 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{many} threads on ")


def test_engines_follow_the_variable(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    assert Segmenter.open(exported_bundle, backend="onnxruntime").encoders.num_threads == 1
    assert Segmenter.open(exported_bundle, backend="onnxruntime", num_threads=2).encoders.num_threads == 2
