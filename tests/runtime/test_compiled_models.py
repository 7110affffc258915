"""Compiled models stay within their limit; those used longest ago go first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from t2d_runtime.errors import OptionError
from t2d_runtime.storage.compiled_models import compiled_folder, compiled_limit, compiled_size, keep_within_limit

KIB_IN_GIB = 2**-20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("T2D_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("T2D_CACHE_GIB", raising=False)
    return tmp_path / "cache"


def compiled(key: str, kib: int, *, minutes_ago: int = 0) -> Path:
    folder = compiled_folder("openvino", key)
    assert folder is not None
    (folder / "model.blob").write_bytes(bytes(kib * 1024))
    os.utime(folder, (folder.stat().st_mtime - 60 * minutes_ago,) * 2)
    return folder


def allow(monkeypatch: pytest.MonkeyPatch, kib: int) -> None:
    monkeypatch.setenv("T2D_CACHE_GIB", str(kib * KIB_IN_GIB))


def test_the_model_used_longest_ago_makes_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest, old = compiled("oldest", 4, minutes_ago=20), compiled("old", 4, minutes_ago=10)
    new = compiled("new", 4)
    allow(monkeypatch, 12)
    keep_within_limit(new)
    assert oldest.exists()
    allow(monkeypatch, 11)
    keep_within_limit(new)
    assert [path.exists() for path in (oldest, old, new)] == [False, True, True]
    assert compiled_size("openvino") == 8 * 1024


def test_a_model_that_is_used_again_is_young_again(monkeypatch: pytest.MonkeyPatch) -> None:
    used, other = compiled("used", 4, minutes_ago=20), compiled("other", 4, minutes_ago=10)
    allow(monkeypatch, 16)
    keep_within_limit(used)
    allow(monkeypatch, 8)
    keep_within_limit(compiled("new", 4))
    assert used.exists()
    assert not other.exists()


def test_one_model_stays_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 1)
    large = compiled("large", 64)
    keep_within_limit(large)
    assert large.exists()


def test_nothing_is_kept_where_the_limit_is_0(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2D_CACHE_GIB", "0")
    assert compiled_folder("openvino", "any") is None
    assert not cache.exists()


def test_the_limit_is_4_gib_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled_limit() == 4 * 2**30
    monkeypatch.setenv("T2D_CACHE_GIB", "")  # as container tools pass what is not set
    assert compiled_limit() == 4 * 2**30


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf", " "])
def test_a_limit_that_is_no_number_is_said(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("T2D_CACHE_GIB", text)
    with pytest.raises(OptionError, match="T2D_CACHE_GIB: expected a number of GiB from 0, got"):
        compiled_limit()
