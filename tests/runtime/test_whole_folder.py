"""Folders appear whole or not at all, also after a power cut, and replace others at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from t2d_runtime.bundle.files import check_new_bundle
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


def refuse_renames(monkeypatch: pytest.MonkeyPatch, target: Path, count: int) -> None:
    """Fail the first renames to a path, as on Windows where a virus scanner has a file open."""
    rename, failures = Path.rename, iter(range(count))

    def refused(path: Path, to: Path) -> Path:
        if to == target and next(failures, None) is not None:
            raise PermissionError(13, "Permission denied")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refused)


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "folder"
    output.mkdir()
    (output / "old").touch()
    refuse_renames(monkeypatch, output, 1)
    with pytest.raises(OutputError, match=r"cannot write .*folder: .*Permission denied"), whole_folder(output):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]


def test_the_old_folder_s_new_name_is_told_where_it_cannot_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "folder"
    output.mkdir()
    (output / "old").touch()
    refuse_renames(monkeypatch, output, 2)
    with pytest.raises(OutputError, match=r"the folder of before is now .*") as caught, whole_folder(output):
        pass
    (replaced,) = tmp_path.iterdir()
    assert f"is now {replaced}: rename it" in str(caught.value)
    assert [path.name for path in replaced.iterdir()] == ["old"]


@pytest.mark.parametrize("name", [".", "..", "sub/.."])
def test_the_folder_that_the_command_runs_in_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="the folder that this command runs in; name"), whole_folder(Path(name)):
        pytest.fail("the work began")
    with pytest.raises(OutputError, match="the folder that this command runs in; name"):
        check_new_bundle(Path(name), overwrite=True)


def test_a_mounted_folder_and_a_file_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file stands where a folder"), whole_folder(tmp_path / "file"):
        pytest.fail("the work began")
    (tmp_path / "mounted").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "mounted")
    with pytest.raises(OutputError, match="where a file system is mounted"), whole_folder(tmp_path / "mounted"):
        pytest.fail("the work began")


def test_a_link_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "old").touch()
    (tmp_path / "link").symlink_to("place")
    with whole_folder(tmp_path / "link") as staging:
        (staging / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "new", "place"]


def test_any_name_that_the_system_takes_will_do(tmp_path: Path) -> None:
    output = tmp_path / ("n" * 255)
    for _ in range(2):
        with whole_folder(output):
            pass
    assert list(tmp_path.iterdir()) == [output]
    for name, reason in {
        "n" * 256: "shorten the name",
        "a\0b": "null byte",
        "loop": "(in a circle|where a folder)",
    }.items():
        (tmp_path / "loop").unlink(missing_ok=True)
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(OutputError, match=rf"cannot write .*{reason}"), whole_folder(tmp_path / name):
            pytest.fail("the work began")
