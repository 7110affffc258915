"""Commands end in a status and a line, whatever the terminal, the environment and the system are like."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2d_runtime.cli import main
from t2d_runtime.commands.running import run_command
from t2d_runtime.commands.terminal import shown
from t2d_runtime.errors import BundleError, ImageError
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.storage import cache
from t2d_runtime.storage.whole_file import whole_file

PROGRAM = (
    "import sys; from t2d_runtime.commands.terminal import say; from t2d_runtime.commands.running import run_command"
)


def program(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A Python program."""
    command = [sys.executable, "-c", f"{PROGRAM}\n{code}"]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})


SAY = "sys.exit(run_command('t2d', lambda: say(chr(0x732b) + chr(0xdce9) + chr(27)) or 0))"


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    assert shown("plain, \u732b") == "plain, \u732b"
    assert shown("caf\udce9 \ud800 \x1b[2J a\nb \u202e") == "caf\\xe9 \\ud800 \\x1b[2J a\\nb \\u202e"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8:strict", "\u732b\\xe9\\x1b".encode()), ("cp1252", b"\\u732b\\xe9\\x1b"), ("ascii", b"\\u732b\\xe9\\x1b")],
)
def test_any_encoding_of_the_terminal_will_do(encoding: str, expected: bytes) -> None:
    done = program(SAY, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, b"")


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr", "stdin stdout stderr"])
def test_closed_streams_do_no_harm(closed: str, tmp_path: Path) -> None:
    """As the shell's `>&-` leaves them. Number 1 would be given to the file, and what is printed would go into it."""
    code = f"""
import os
for number, name in enumerate(("stdin", "stdout", "stderr")):
    if name in {closed!r}:
        os.close(number)
        setattr(sys, name, None)

def command():
    file = open({str(tmp_path / "file")!r}, "wb")
    say("said")
    os.write(1, b"printed by a library")
    print("complained", file=sys.stderr)
    return len(sys.stdin.read())

sys.exit(run_command("t2d", command))
"""
    done = program(code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_bytes() == b""
    assert done.stderr.strip() == (b"" if "stderr" in closed else b"complained")


FULL = Path("/dev/full")
"""A device that takes nothing, where the system has it."""


def test_an_output_that_takes_nothing_is_one_line() -> None:
    if FULL.exists():
        for code in (SAY, "sys.exit(run_command('t2d', lambda: print('x') or 0))"):
            with FULL.open("wb") as full:
                command = [sys.executable, "-c", f"{PROGRAM}\n{code}"]
                done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
                assert len(done.stderr.splitlines()) == 1
                assert done.stderr.startswith(b"t2d: error: ")
                assert b"No space left on device" in done.stderr
                assert done.returncode == 2
                assert subprocess.run(command, stdout=full, stderr=full, check=False).returncode == 2


def test_python_m_is_the_command() -> None:
    command = [sys.executable, "-m", "t2d_runtime", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: t2d ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "t2d: error: the following arguments are required: COMMAND; see t2d --help\n"),
        (["info"], "t2d info: error: the following arguments are required: BUNDLE; see t2d info --help\n"),
        (["info", "b", "a\nb"], "t2d info: error: unrecognized arguments: a b; see t2d info --help\n"),
        (
            ["info", "b", "--verbsoe=1"],
            "t2d info: error: unrecognized arguments: --verbsoe=1 (did you mean --verbose?); see t2d info --help\n",
        ),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ImageError("a\nb"), "a b"),
        (OSError(errno.EIO, "Input/output error"), "OSError: [Errno 5] Input/output error; -v shows where"),
        (MemoryError(), "MemoryError: no message; -v shows where"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), "surrogates not allowed; -v shows"),
    ],
)
def test_errors_are_one_line_and_their_place_is_in_the_log(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def command() -> int:
        raise error

    with caplog.at_level(logging.INFO, "t2d_runtime"):
        assert run_command("t2d", command) == 2
    out = capsys.readouterr()
    assert out.err.startswith("t2d: error: ")
    assert line in out.err
    assert len(out.err.splitlines()) == 1
    assert (caplog.records != []) == ("-v shows" in line)


@pytest.mark.parametrize("error", [TypeError("a fault of ours"), ModuleNotFoundError("t2d_runtime.x")])
def test_faults_of_the_program_are_not_hidden(error: Exception) -> None:
    def command() -> int:
        raise error

    with pytest.raises(type(error)):
        run_command("t2d", command)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "choose a folder that this user may write to"),
        (errno.EROFS, "choose a folder that can be written to"),
        (errno.ENOTDIR, "a file stands where a folder is expected; choose another --output"),
    ],
)
def test_a_file_that_cannot_be_written_says_why_and_what_to_do(
    code: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", fail)
    with (
        pytest.raises(OSError, match=f"cannot write .*a.json: {os.strerror(code)}; {advice}"),
        whole_file(tmp_path / "a.json"),
    ):
        pass


# No home, no cache


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and unknown to the system, as in containers."""
    for name in ("T2D_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    cache._warn.cache_clear()


@pytest.mark.usefixtures("homeless")
def test_without_a_home_nothing_is_cached_which_is_said_once(
    exported_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["segment", str(exported_bundle), str(tmp_path / "a.png"), "--classes", "sky", "--output"]
    assert main([*arguments, str(tmp_path / "out"), "--backend", "onnxruntime"]) == 0
    said = [record.getMessage() for record in caplog.records if "nothing is cached" in record.getMessage()]
    assert said == ["nothing is cached: the user has no home folder; set T2D_CACHE_DIR to a folder that can be written"]
    assert main(["doctor"]) == 0
    assert "cache: none, since the user has no home folder" in capsys.readouterr().out


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("T2D_CACHE_DIR")
    usual = cache.cache_folder()
    assert usual is not None
    monkeypatch.setenv("T2D_CACHE_DIR", "")
    assert cache.cache_folder() == usual


def test_a_bundle_s_path_that_is_no_text_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the bundle's path is not UTF-8, which the engines need"):
        Segmenter.open(tmp_path / "caf\udce9", backend="onnxruntime")
