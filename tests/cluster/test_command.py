"""Wrong command lines are one line and status 2, and leave nothing behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from t2d_runtime.cli import main

from .conftest import write_scenes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", ""], "--output is empty; expected a folder, or an address such as s3://bucket/folder"),
        (["--threshold", "0.5"], "--threshold has no effect without --background"),
        (["--background", "--threshold", "7"], "threshold is 7.0, expected a number from 0 to 1"),
        (["--address", "ray://head:10001"], "the address ray://head:10001: Ray Data does not run through Ray's client"),
        (["--address", "head"], "the cluster's address is 'head', expected HOST:PORT or auto"),
        (["--address", ""], "the cluster's address is '', expected HOST:PORT or auto"),
        (["--rows-per-file", "0"], "--rows-per-file is 0, expected a whole number from 1"),
        (["--workers", "0"], "--workers is 0, expected a whole number from 1"),
        (["--column", "image"], "--column has no effect without a Parquet file or a WebDataset shard"),
        (["--prompts", "none"], "--prompts none: no such file, nor a prompt set of the bundle"),
        (["--output", "in"], "in holds 000.png, which is no part of a dataset of this command; choose another"),
        (["--output", "file"], "file cannot be listed: "),
    ],
)
def test_wrong_options_are_told(
    exported_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "in", 1)
    Path("file").touch()
    assert main(["cluster", str(exported_bundle), "in", "--output", "out", "--classes", "sky,sea", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("t2d: error: ")
    assert message in line
    assert not Path("out").exists()


def test_the_variable_of_ray_is_an_address(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    command = ["cluster", str(exported_bundle), str(tmp_path), "--output", str(tmp_path / "out"), "--classes", "sky"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "address is 'http://127.0.0.1:8265', expected HOST:PORT or auto in --address or the variable" in told


def test_a_cluster_that_does_not_answer_is_told(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "in", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        command = ["cluster", str(exported_bundle), str(tmp_path / "in"), "--output", str(tmp_path / "out")]
        assert main([*command, "--classes", "sky", "--address", address]) == 2
    told = capsys.readouterr().err
    assert f"the cluster at {address} does not answer: Connection refused; give the address and port" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()
