"""The command line: help without torch, bad input as one line, and the chain from images to retrieval."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent.parent


def test_help_of_every_command_imports_no_torch():
    calls = "".join(
        "try:\n"
        f"    main([{name!r}, '--help'])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        f"assert 'torch' not in sys.modules, {name!r}\n"
        for name in COMMANDS
    )
    script = f"import sys\nfrom training.__main__ import main\n{calls}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: python -m training") == len(COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--features", "nowhere", "--output", "out"],
        ["train", "--features", "nowhere", "--output", "out", "--batch-size", "1"],
        ["train", "--features", "nowhere", "--output", "out", "--text-input", "tokens"],
        ["evaluate", "--features", "nowhere", "--projection", "nothing.pth"],
        ["ablate", "--table", "heads", "--features", "nowhere", "--output", "out"],
        ["features", "--captions", "nowhere.json", "--output", "out"],
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("training: error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.parametrize(
    "arguments",
    [
        ["features", "--captions", "x", "--output", "y", "--input-size", "big"],
        ["features", "--captions", "x", "--output", "y", "--text-arrays", "words"],
        ["train", "--features", "x", "--output", "y", "--selection", "best"],
    ],
)
def test_bad_arguments_are_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_train_and_evaluate_by_command(small_features, tmp_path, capsys):
    common = ["--features", str(small_features)]
    settings = ["--epochs", "2", "--batch-size", "32", "--learning-rate", "3e-3"]
    assert main(["train", *common, "--validation", str(small_features), "--output", str(tmp_path), *settings]) == 0
    assert main(["evaluate", *common, "--projection", str(tmp_path / "projection.pth")]) == 0
    assert capsys.readouterr().out.count(" to ") == 4
