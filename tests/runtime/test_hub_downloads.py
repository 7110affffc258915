"""Downloads: the real client against a hub on loopback, and each of the hub's failures."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from t2d_runtime.commands.running import run_command
from t2d_runtime.errors import HubError, HubUnreachableError, OptionError, OutputError, T2DError
from t2d_runtime.storage import hub as client
from t2d_runtime.storage import progress
from t2d_runtime.storage.hub import look_up
from t2d_runtime.storage.hub_download import fetch, partial_of
from t2d_runtime.storage.hub_names import HubName
from tests.hub import server
from tests.hub.fixtures import connect, hub
from tests.hub.server import LoopbackHub

__all__ = ["hub"]  # a fixture

NAME = "org/model"
LARGE = np.random.default_rng(7).bytes(3_000_000)
FILES = {"config.json": b'{"a": 1}', "model.safetensors": LARGE}


def get(folder: Path, file: str = "model.safetensors", name: str = f"hf://{NAME}") -> bytes:
    found = look_up(HubName.parse(name)).files[file]
    fetch({folder / file: found}, label=name, moved_by="SOME_VARIABLE")
    return (folder / file).read_bytes()


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("file", FILES)
def test_a_file_arrives_whole_and_is_fetched_once(hub: LoopbackHub, tmp_path: Path, file: str) -> None:
    hub.add(NAME, FILES)
    for _ in range(2):
        assert get(tmp_path / "out", file) == FILES[file]
    assert hub.sent_bytes == {file: len(FILES[file])}
    assert below(tmp_path / "out") == [file]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", [True, False])
def test_only_commands_show_bars(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: bool
) -> None:
    hub.add(NAME, FILES)
    monkeypatch.setattr(progress, "_shown", False)
    if command:
        run_command("t2d", lambda: 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    get(tmp_path / "out")
    assert ("B/s" in sys.stderr.getvalue()) == command  # type: ignore[attr-defined]


def test_the_log_of_the_hub_s_library_is_left_to_its_program() -> None:
    level = "import logging; from t2d_runtime.storage.hub import hub_library; hub_library().HfApi\n"
    level += "print(logging.getLogger('huggingface_hub').getEffectiveLevel())"
    command = f"from t2d_runtime.commands.running import run_command; run_command('t2d', lambda: 0)\n{level}"
    program = f"import huggingface_hub; huggingface_hub.logging.set_verbosity_info()\n{level}"
    for code, expected in ((command, logging.ERROR), (program, logging.INFO)):
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
        assert done.stdout == f"{expected}\n"


def test_revisions(hub: LoopbackHub) -> None:
    old = hub.add(NAME, {"a": b"1"})
    new = hub.add(NAME, {"a": b"22"})
    hub.repositories[NAME].branches["refs/pr/3"] = old
    for revision, commit in {"": new, "@main": new, f"@{old}": old, "@refs/pr/3": old}.items():
        assert look_up(HubName.parse(f"hf://{NAME}{revision}")).commit == commit
    with pytest.raises(HubError, match=rf"^hf://{NAME}@v9: the repository has no such revision; expected a branch"):
        look_up(HubName.parse(f"hf://{NAME}@v9"))


@pytest.mark.parametrize(
    ("text", "repository", "revision", "file"),
    [
        ("hf://a/b", "a/b", None, None),
        ("hf://a/b@main", "a/b", "main", None),
        ("hf://a/b.c@v1.0/x/y.bin", "a/b.c", "v1.0", "x/y.bin"),
        ("hf://a/b/y.bin", "a/b", None, "y.bin"),
        ("hf://a/b@refs/pr/1/y.bin", "a/b", "refs/pr/1", "y.bin"),
    ],
)
def test_names(text: str, repository: str, revision: str | None, file: str | None) -> None:
    assert HubName.parse(text) == HubName(repository, revision, file)
    assert str(HubName.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["hf://a", "hf:///b", "hf://a/b@", "hf://a/..", "hf://a/b/../c", "hf://a/b//c", "hf://a/b/c:d", "hf://a/b/c\\d", "hf://-a/b",
     "hf://a/b@..", "hf://a/b@%2e%2e%2fc", "hf://a/b@c%5cd", "hf://a/b@c%00"],
)  # fmt: skip
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match=r"expected hf://ORG/REPO\[@REVISION\]\[/FILE\]"):
        HubName.parse(text)


def test_the_token_goes_to_the_hub_alone(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES, readers=frozenset(["hf_secret"]))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert get(tmp_path / "out") == LARGE
    tokens = {(seen.at_storage, seen.token) for seen in hub.seen if "model" in seen.path}
    assert tokens == {(False, "hf_secret"), (True, None)}


def test_a_gated_repository_says_what_to_accept_where(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES, readers=frozenset(["hf_granted"]))
    page = f"accept their conditions at {hub.endpoint}/{NAME}"
    with pytest.raises(HubError, match=rf"its authors ask for consent first; {page}, then set HF_TOKEN to a token"):
        get(tmp_path / "out")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HubError, match=rf"{page}, with the account of this token, and wait until it is granted"):
        get(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("private", [True, False])
def test_no_such_repository(hub: LoopbackHub, private: bool) -> None:
    if private:
        hub.add(NAME, FILES, private=True)
    with pytest.raises(HubError, match=rf"^hf://{NAME}: the hub at {hub.endpoint} has no such repository, or it is"):
        look_up(HubName.parse(f"hf://{NAME}"))


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("where", ["/api/models", "/resolve/", "?oid="])
def test_trouble_that_passes_is_waited_for(hub: LoopbackHub, tmp_path: Path, status: int, where: str) -> None:
    hub.add(NAME, FILES)
    hub.fail(where, status=status, retry_after=0, times=3)
    assert get(tmp_path / "out") == LARGE
    assert hub.sent_bytes == {"model.safetensors": len(LARGE)}


@pytest.mark.parametrize(
    ("status", "message"),
    [(429, "too many requests"), (500, "answers 500; try again"), (503, "answers 503; try again")],
)
@pytest.mark.parametrize("where", ["/api/models", "/resolve/", "?oid="])
def test_trouble_that_stays_is_told(hub: LoopbackHub, tmp_path: Path, status: int, message: str, where: str) -> None:
    hub.add(NAME, FILES)
    hub.fail(where, status=status)
    with pytest.raises(HubError, match=message):
        get(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_waits_double_unless_the_hub_asks_for_others(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client, "FIRST_WAIT_S", 1.0)
    monkeypatch.setattr(client.time, "sleep", waits.append)
    hub.add(NAME, FILES)
    hub.fail("/api/models", status=503, times=4)
    hub.fail("/resolve/", status=429, retry_after=7, times=2)
    get(tmp_path / "out")
    assert waits == [1, 2, 4, 8, 7, 7]


def test_a_hub_that_asks_to_wait_for_long_is_told(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.fail("/resolve/", status=429, retry_after=3600)
    with pytest.raises(HubError, match=r"the hub asks to wait 3600 seconds \(too many requests\); try again then"):
        get(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("places", [(1, 1_000_000, 2_999_999), range(100_000, 900_000, 100_000)])
def test_a_connection_that_is_cut_goes_on_where_it_was(hub: LoopbackHub, tmp_path: Path, places: Sequence[int]) -> None:
    """However often, as long as bytes arrive."""
    hub.add(NAME, FILES)
    for place in places:
        hub.fail("model.safetensors", cut_at=place, times=1)
    assert get(tmp_path / "out") == LARGE
    assert hub.sent_bytes == {"model.safetensors": len(LARGE)}
    assert [seen.range for seen in hub.requests("GET", "?oid=")] == [None, *(f"bytes={place}-" for place in places)]


def test_a_part_of_another_file_is_fetched_again(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    found = look_up(HubName.parse(f"hf://{NAME}")).files["model.safetensors"]
    partial = partial_of(tmp_path / "out" / "model.safetensors", found)
    partial.parent.mkdir()
    partial.write_bytes(b"of another file")
    assert get(tmp_path / "out") == LARGE
    assert hub.sent_bytes == {"model.safetensors": 2 * len(LARGE) - len(b"of another file")}
    assert below(tmp_path / "out") == ["model.safetensors"]


def test_a_connection_that_is_cut_always_keeps_its_part(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    fault = hub.fail("model.safetensors", cut_at=1_000_000)
    with pytest.raises(HubUnreachableError, match=r"broke again and again .*; 1000000 of 3000000 bytes are kept"):
        get(tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()
    fault.times = 0
    assert get(tmp_path / "out") == LARGE
    assert hub.sent_bytes == {"model.safetensors": len(LARGE)}
    assert below(tmp_path / "out") == ["model.safetensors"]


def test_a_server_without_ranges_sends_all_of_it_again(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.fail("model.safetensors", cut_at=1_000_000, times=1)
    hub.fail("model.safetensors", ignores_range=True)
    assert get(tmp_path / "out") == LARGE
    assert hub.sent_bytes == {"model.safetensors": 1_000_000 + len(LARGE)}


@pytest.mark.parametrize(("file", "kind"), [("model.safetensors", "sha256"), ("config.json", "Git name")])
def test_other_bytes_than_the_hub_named_are_not_kept(hub: LoopbackHub, tmp_path: Path, file: str, kind: str) -> None:
    hub.add(NAME, FILES)
    hub.fail(file, content=FILES[file][:-1] + b"!")
    with pytest.raises(HubError, match=rf"{file}: its {kind} is .*, the hub says .*nothing of it was kept"):
        get(tmp_path / "out", file)
    assert not (tmp_path / "out").exists()


def test_another_size_than_the_hub_named_is_told(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.fail("model.safetensors", content=LARGE[:-1])
    with pytest.raises(HubError, match="has 3000000 bytes, but the hub sends 2999999"):
        get(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_hub_that_sends_without_an_end_is_stopped(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.fail("config.json", content=LARGE * 10, unmeasured=True)
    with pytest.raises(HubError, match=r"config.json has 8 bytes, but the hub sends more; nothing of it was kept"):
        get(tmp_path / "out", "config.json")
    assert hub.sent_bytes["config.json"] < len(LARGE) * 10
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("commit", ["../../outside", "f" * 39, "F" * 40, "main"])
def test_a_commit_that_is_none_is_refused(hub: LoopbackHub, commit: str) -> None:
    hub.add(NAME, FILES)
    repository = hub.repositories[NAME]
    repository.commits[commit], repository.branches["main"] = dict(FILES), commit
    with pytest.raises(HubError, match=rf"names '{commit}' as the commit, expected .* nothing was taken from it"):
        look_up(HubName.parse(f"hf://{NAME}"))


@pytest.mark.parametrize("kind", ["git_sha1", "sha256"])
def test_a_digest_that_is_none_is_refused(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The hub's caches call files by their digests."""
    hub.add(NAME, FILES)
    monkeypatch.setattr(server, kind, lambda _: "../../outside")
    with pytest.raises(HubError, match=r"names '\.\./\.\./outside' as a digest of '.*', expected .* nothing was taken"):
        look_up(HubName.parse(f"hf://{NAME}"))


def test_a_part_of_another_file_is_replaced(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    fault = hub.fail("model.safetensors", cut_at=1_000_000)
    with pytest.raises(HubUnreachableError):
        get(tmp_path / "out")
    (partial,) = (tmp_path / "out").iterdir()
    partial.write_bytes(b"x" * 4_000_000)
    fault.times = 0
    assert get(tmp_path / "out") == LARGE


def test_a_disk_that_is_too_small_is_told_before_it_begins(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, (64 << 20) + len(LARGE) - 1))
    with pytest.raises(OutputError, match=r"needs 0\.00 GiB in .*; free some space, or set SOME_VARIABLE to a folder"):
        get(tmp_path / "out")
    assert hub.sent_bytes == {}
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_told(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*a file stands where a folder is expected"):
        get(tmp_path / "file" / "out")


def test_without_a_network_it_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    connect(address, tmp_path, monkeypatch)
    with pytest.raises(HubUnreachableError, match=rf"is not in the cache, and the hub at {address} cannot be reached"):
        get(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_address_that_is_no_hub_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("nonsense", "http://[", "ftp://127.0.0.1"):
        connect(address, tmp_path, monkeypatch)
        with pytest.raises(T2DError, match=r"cannot be reached"):
            look_up(HubName.parse(f"hf://{NAME}"))


CHILD = """
import sys
from pathlib import Path
from t2d_runtime.storage import hub as client
from t2d_runtime.storage.hub import look_up
from t2d_runtime.storage.hub_download import fetch, partial_of
from t2d_runtime.storage.hub_names import HubName
found = look_up(HubName.parse("hf://org/model"))
fetch({Path(sys.argv[1]) / name: file for name, file in found.files.items()}, label="x", moved_by="X")
"""


def test_killed_at_three_moments_nothing_is_fetched_twice(hub: LoopbackHub, tmp_path: Path) -> None:
    """A stalled file tells exactly how much has arrived when the process is killed."""
    hub.add(NAME, {**FILES, "more.bin": LARGE[::-1]})
    moments = sorted(int(place) for place in np.random.default_rng(19).integers(1, 2 * len(LARGE), 3))
    command = [sys.executable, "-c", CHILD, str(tmp_path / "out")]
    for moment in moments:
        file = "model.safetensors" if moment < len(LARGE) else "more.bin"
        fault = hub.fail(file, stall_at=moment % len(LARGE), times=1)
        child = subprocess.Popen(command)
        assert fault.reached.wait(60)
        wait_for_bytes(tmp_path / "out", moment)
        child.send_signal(signal.SIGKILL)
        child.wait()
    subprocess.run(command, check=True, timeout=60)
    assert hub.sent_bytes == {name: len(content) for name, content in {**FILES, "more.bin": LARGE}.items()}
    assert below(tmp_path / "out") == ["config.json", "model.safetensors", "more.bin"]
    digests = {hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() for name in FILES}
    assert digests == {hashlib.sha256(content).hexdigest() for content in FILES.values()}


def wait_for_bytes(folder: Path, count: int) -> None:
    """The bytes that were sent are on their way to the file for a moment."""
    for _ in range(6000):
        sizes = [path.stat().st_size for path in folder.iterdir() if path.suffix != ".json"] if folder.exists() else []
        if sum(sizes) >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"{count} bytes did not arrive")
