"""Folders appear whole or not at all, also after a power cut, and replace others at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from t2d_runtime.errors import OutputError
from t2d_runtime.storage.whole_folder import whole_folder


def test_the_files_are_on_the_disk_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "folder"
    synced: list[int] = []
    fsync = os.fsync

    def seen(handle: int) -> None:
        fsync(handle)
        assert not output.exists()
        synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", seen)
    with whole_folder(output) as staging:
        (staging / "inner").mkdir()
        (staging / "one").write_bytes(b"1")
        (staging / "inner" / "two").write_bytes(b"22")
    assert sorted(synced) == [1, 2]


def test_another_folder_is_replaced_by_all_of_the_new_one(tmp_path: Path) -> None:
    output = tmp_path / "folder"
    for name in ("old", "new"):
        with whole_folder(output) as staging:
            (staging / name).touch()
        assert [path.name for path in output.iterdir()] == [name]
    assert list(tmp_path.iterdir()) == [output]


def test_a_disk_that_fails_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "folder"
    output.mkdir()
    (output / "old").touch()

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left on device"), whole_folder(output) as staging:
        (staging / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]
