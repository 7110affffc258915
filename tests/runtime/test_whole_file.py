"""Files are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from t2d_runtime.errors import OutputError
from t2d_runtime.storage.whole_file import whole_file


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    synced: list[tuple[int, bytes]] = []
    fsync = os.fsync

    def seen(handle: int) -> None:
        fsync(handle)
        synced.append((os.fstat(handle).st_size, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", seen)
    with whole_file(path) as file:
        file.write(b"content")
    assert synced == [(7, b"old")], "all of the content, and the old file is still there"
    assert path.read_bytes() == b"content"


def test_a_failed_block_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as file:
        file.write(b"new" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fails_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems report a full disk only here."""

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(OutputError, match=r"cannot write .*file: No space left on device"),
        whole_file(tmp_path / "file") as file,
    ):
        file.write(b"new")
    assert list(tmp_path.iterdir()) == []


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    with whole_file(tmp_path / "file"):
        pass
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_umask_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(_: int) -> int:
        raise AssertionError("other threads would write files with another umask")

    monkeypatch.setattr(os, "umask", changed)
    with whole_file(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("place/file")
    (tmp_path / "to-nowhere").symlink_to("place/new")
    for name, file in {"link": "file", "to-nowhere": "new"}.items():
        with whole_file(tmp_path / name) as opened:
            opened.write(b"new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "place" / file).read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "link", "new", "place", "to-nowhere"]


@pytest.mark.parametrize(
    ("name", "reason"), [("a\0b", "embedded null byte"), ("loop", "lead in a circle"), ("n" * 300, "shorten the name")]
)
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match=rf"cannot write .*{reason}"), whole_file(tmp_path / name):
        pytest.fail("nothing can be written")
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]
