"""The cache of pulled bundles: shared by processes, read without the right to write, and repaired."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from t2d_runtime import Segmenter
from t2d_runtime.bundle.files import IMAGE_ENCODER, MANIFEST, TEXT_ENCODER, Bundle
from t2d_runtime.bundle.from_hub import pull
from t2d_runtime.bundle.old_commits import Removed, remove_old_commits
from t2d_runtime.cli import main
from t2d_runtime.errors import BundleError, HubUnreachableError, OutputError
from t2d_runtime.storage.alone import alone
from t2d_runtime.storage.hub_names import HubName
from tests.hub.fixtures import hub
from tests.hub.server import LoopbackHub
from tests.runtime.test_bundle import change_a_byte
from tests.runtime.test_hub_bundles import ADDRESS, FP32, INT8, NAME, commit, content_of, files_below, pulled

__all__ = ["commit", "hub"]  # fixtures

CHILD = """
import sys
from t2d_runtime.bundle.from_hub import pull
from t2d_runtime.storage.hub import hub_library
from t2d_runtime.storage.hub_names import HubName
hub_library()
print("ready", flush=True)
sys.stdin.readline()
pull(HubName.parse(sys.argv[1]), ["fp32"])
"""


def test_processes_pull_one_bundle_at_once(hub: LoopbackHub, commit: str, exported_bundle: Path) -> None:
    command = [sys.executable, "-c", CHILD, ADDRESS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, complaint = child.communicate(timeout=120)
        assert (child.returncode, complaint) == (0, "")
    assert hub.sent_bytes == {name: len(content_of(exported_bundle)[name]) for name in FP32}


def test_threads_pull_one_bundle_at_once(hub: LoopbackHub, commit: str, exported_bundle: Path) -> None:
    together = threading.Barrier(4)

    def pull_it(precision: str) -> Path:
        together.wait()
        return pull(HubName.parse(ADDRESS), [precision])

    with ThreadPoolExecutor(4) as pool:
        (folder,) = set(pool.map(pull_it, ["fp32", "int8", "fp32", "int8"]))
    assert files_below(folder) == FP32 | INT8
    assert sum(hub.sent_bytes.values()) == sum(len(content_of(exported_bundle)[name]) for name in FP32 | INT8)


def test_a_cache_that_cannot_be_written_is_read(
    hub: LoopbackHub, commit: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pull(HubName.parse(ADDRESS), ["fp32"])
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    for name in (ADDRESS, f"{ADDRESS}@{commit}"):
        assert pull(HubName.parse(name), ["fp32"]) == folder
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with pytest.raises(OutputError, match="a bundle from a hub needs a cache; set T2D_CACHE_DIR"):
        pull(HubName.parse(ADDRESS), ["int8"])


@pytest.mark.parametrize("recalled", ["../../outside", "main"])
def test_a_recalled_commit_that_is_none_is_not_followed(
    hub: LoopbackHub, commit: str, monkeypatch: pytest.MonkeyPatch, recalled: str
) -> None:
    folder = pull(HubName.parse(ADDRESS), ["fp32"])
    shutil.copytree(folder, folder.parent / recalled)
    monkeypatch.setattr("t2d_runtime.bundle.from_hub.recall", lambda *_: {"commit": recalled})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE forbids the network"):
        pull(HubName.parse(ADDRESS), ["fp32"])


def test_a_damaged_file_is_told_and_repaired(
    hub: LoopbackHub, commit: str, exported_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pull(HubName.parse(ADDRESS), ["fp32", "int8"])
    name = f"{ADDRESS}@{commit}"
    for file in (IMAGE_ENCODER, f"precisions/int8/{IMAGE_ENCODER}"):
        change_a_byte(folder / file)
        with pytest.raises(BundleError, match=rf"{file} has sha256 .*; get it again with 't2d pull {name}'"):
            Bundle.open(folder).file(file)
        for _ in range(2):
            assert main(["pull", ADDRESS]) == 0
        Bundle.open(folder).file(file)
        assert hub.sent_bytes[IMAGE_ENCODER] == sum(
            len(content_of(exported_bundle)[each]) * count
            for each, count in {
                IMAGE_ENCODER: 2,
                f"precisions/int8/{IMAGE_ENCODER}": 1 + (file != IMAGE_ENCODER),
            }.items()
        )
    assert str(folder) in capsys.readouterr().out


def test_a_copy_names_the_command_that_repairs_it(hub: LoopbackHub, commit: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert main(["pull", ADDRESS, "--output", str(copy)]) == 0
    content = (copy / TEXT_ENCODER).read_bytes()
    (copy / TEXT_ENCODER).unlink()
    (copy / TEXT_ENCODER).write_bytes(content[:-1])
    command = f"'t2d pull {ADDRESS}@{commit} --output {copy} --overwrite'"
    with pytest.raises(BundleError, match=rf"{TEXT_ENCODER} has .*cut short; get it again with {command}, with the"):
        Bundle.open(copy)


def test_a_file_that_was_cut_and_a_damaged_manifest_are_got_again(
    hub: LoopbackHub, commit: str, exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pull(HubName.parse(ADDRESS), ["fp32"])
    for file in (IMAGE_ENCODER, MANIFEST):
        for name in (ADDRESS, f"{ADDRESS}@{commit}"):
            (folder / file).write_bytes((folder / file).read_bytes()[:-100])
            Segmenter.open(name, backend="onnxruntime")
            assert (folder / file).read_bytes() == (exported_bundle / file).read_bytes()
    change_a_byte(folder / MANIFEST)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE forbids the network"):
        pull(HubName.parse(ADDRESS), ["fp32"])


def test_a_newer_commit_may_have_what_the_cached_one_lacks(
    hub: LoopbackHub, commit: str, exported_bundle: Path
) -> None:
    files = content_of(exported_bundle)
    older = pulled(hub, files, lambda data: [data["files"].pop(file) for file in list(data["files"]) if "int8" in file])
    assert files_below(older) == FP32
    newer = hub.add(NAME, files)
    assert files_below(pull(HubName.parse(ADDRESS), ["int8"])) == INT8
    assert newer != older.name


def test_a_damaged_manifest_is_named(hub: LoopbackHub, commit: str) -> None:
    path = pull(HubName.parse(ADDRESS), ["fp32"]) / MANIFEST
    change_a_byte(path)
    with pytest.raises(BundleError, match=rf"^{path} was changed since the export"):
        Bundle.open(path.parent)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """Ends the processes that a test started, which read to the end of their input."""
    with ExitStack() as processes:
        yield processes


HOLDER = """
import sys
from t2d_runtime import Segmenter
segmenter = Segmenter.open(sys.argv[1], backend="onnxruntime")
print("open", flush=True)
sys.stdin.readline()
segmenter.encode_classes(["a word of its own"])
"""


def test_old_commits_are_removed_but_not_those_in_use(
    hub: LoopbackHub, commit: str, exported_bundle: Path, running: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    unused, used = pull(HubName.parse(f"{ADDRESS}@{commit}"), ["fp32"]), hub.add(NAME, content_of(exported_bundle))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", HOLDER, f"{ADDRESS}@{used}"]
    child = running.enter_context(subprocess.Popen(command, **pipes))  # type: ignore[call-overload]
    assert child.stdout.readline() == "open\n"
    new = hub.add(NAME, content_of(exported_bundle))
    half = hub.add(
        NAME,
        {**content_of(exported_bundle), "README.md": b""},
    )
    hub.repositories[NAME].branches["main"] = new
    incoming = unused.with_name(f"{half}.incoming")
    incoming.mkdir()
    (incoming / "part").write_bytes(b"1")

    assert main(["pull", ADDRESS, "--remove-old"]) == 0
    size = sum(len(content_of(exported_bundle)[name]) for name in FP32) / 2**20
    assert f"removed 2 other commits, {size:.1f} MiB; 1 in use stay" in capsys.readouterr().out
    assert {path.name for path in unused.parent.iterdir() if path.is_dir()} == {new, used}
    child.communicate("go\n", timeout=120)
    assert child.returncode == 0
    assert main(["pull", ADDRESS, "--remove-old"]) == 0
    assert f"removed 1 other commits, {size:.1f} MiB\n" in capsys.readouterr().out
    assert {path.name for path in unused.parent.iterdir() if path.is_dir()} == {new}
    Segmenter.open(ADDRESS, backend="onnxruntime")


def test_a_bundle_that_this_process_has_open_stays_until_it_is_dropped(
    hub: LoopbackHub, commit: str, exported_bundle: Path
) -> None:
    bundle: Bundle | None = Bundle.open(pull(HubName.parse(ADDRESS), []))
    assert bundle is not None
    change_a_byte(bundle.folder / MANIFEST)
    assert pull(HubName.parse(ADDRESS), []) == bundle.folder  # repaired meanwhile
    hub.add(NAME, content_of(exported_bundle))
    new = pull(HubName.parse(ADDRESS), [])
    assert remove_old_commits(new) == Removed(0, 0, 1)
    assert (bundle.folder / MANIFEST).is_file()
    bundle = None
    assert remove_old_commits(new).commits == 1


def test_a_commit_that_is_being_pulled_stays(hub: LoopbackHub, commit: str, exported_bundle: Path) -> None:
    old = pull(HubName.parse(ADDRESS), [])
    hub.add(NAME, content_of(exported_bundle))
    with alone(old):
        assert remove_old_commits(pull(HubName.parse(ADDRESS), [])) == Removed(0, 0, 1)
    assert (old / MANIFEST).is_file()
