"""The command line: help without torch, bad input as one line, and the chain from images to retrieval."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import safetensors

from tests.conftest import hear_interrupts
from training import folders
from training.__main__ import COMMANDS, main
from training.config import TrainConfig
from training.run.train import train

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


@pytest.mark.parametrize("option", [[], ["-v"]], ids=["plain", "verbose"])
def test_an_unforeseen_error_is_one_line_and_v_shows_where(option):
    script = f"""
import sys
from training.__main__ import main
from training.commands import scenes

def run(args):
    raise MemoryError

scenes.run = run
sys.exit(main(["scenes", "--output", "out", *{option}]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "training: error: MemoryError: no message; -v shows where"
    assert ("Traceback" in done.stderr) == bool(option)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--features", "nowhere", "--output", "out"],
        ["train", "--features", "nowhere", "--output", "out", "--batch-size", "1"],
        ["train", "--features", "nowhere", "--output", "out", "--text-input", "tokens"],
        ["evaluate", "--features", "nowhere", "--projection", "nothing.pth"],
        ["ablate", "--table", "heads", "--features", "nowhere", "--output", "out"],
        ["features", "--captions", "nowhere.json", "--output", "out"],
        ["evaluate", "--features", "a" * 300, "--projection", "nothing.pth"],
        ["scenes", "--output", "out", "--seed", "-1"],
        ["scenes", "--output", "out", "--size", "1000000"],
        ["tiny", "--output", "out", "--quick", "--seed", "-1"],
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
        ["features", "--captions", "x", "--output", "y", "--input-size", "14x"],
        ["features", "--captions", "x", "--output", "y", "--text-arrays", "words"],
        ["train", "--features", "x", "--output", "y", "--selection", "best"],
    ],
)
def test_bad_arguments_are_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seed", "-1", "seed: expected 0 to 4294967295, got -1"),
        ("--seed", "4294967296", "seed: expected 0 to 4294967295, got 4294967296"),
        ("--weight-decay", "-1", "weight_decay: expected a number of at least 0, got -1.0"),
        ("--weight-decay", "nan", "weight_decay: expected a number of at least 0, got nan"),
        ("--weight-decay", "0.1", "weight_decay 0.1 has no effect with the optimizer 'adam'; give 'adamw'"),
        ("--learning-rate", "nan", "learning_rate: expected a number above 0, got nan"),
        ("--learning-rate", "inf", "learning_rate: expected a number above 0, got inf"),
        ("--learning-rate", "0", "learning_rate: expected a number above 0, got 0.0"),
        ("--batch-size", "0", "expected batch_size >= 2"),
        ("--epochs", "0", "epochs >= 1"),
        ("--warmup-steps", "-1", "warmup_steps >= 0"),
    ],
)
@pytest.mark.parametrize("command", [["train"], ["ablate", "--table", "losses"]])
def test_impossible_settings(small_features, tmp_path, capsys, command, option, value, message):
    arguments = [*command, "--features", str(small_features), "--output", str(tmp_path / "out"), option, value]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--batch-size", "0", "batch_size and images_per_shard of at least 1"),
        ("--images-per-shard", "0", "batch_size and images_per_shard of at least 1"),
        ("--workers", "-1", "workers of 0 to 256, got"),
        ("--workers", "100000", "workers of 0 to 256, got"),
        ("--input-size", "0", "input_size: expected sides of 1 to 8192 pixels, got 0 x 0"),
        ("--input-size", "14x10000", "got 14 x 10000"),
        ("--max-unreadable", "nan", "max_unreadable: expected a share of 0 to 1, got nan"),
    ],
)
def test_impossible_extractions(tmp_path, capsys, option, value, message):
    assert main(["features", "--captions", "x.csv", "--output", str(tmp_path / "out"), option, value]) == 2
    assert message in capsys.readouterr().err


def commands_that_write(features: Path, captions: Path) -> list[list[str]]:
    return [
        ["train", "--features", str(features)],
        ["ablate", "--table", "losses", "--features", str(features)],
        ["features", "--captions", str(captions), "--backbone", str(ROOT / "models" / "tiny")],
        ["scenes", "--count", "1"],
        ["tiny", "--quick"],
    ]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("below", ["", "below", "further/below"])
def test_an_output_on_a_file_leaves_it_alone(small_features, tmp_path, capsys, number, below):
    file = tmp_path / "file"
    file.write_text("mine")
    (tmp_path / "captions.csv").write_text("image,caption\na.png,x\n")
    command = commands_that_write(small_features, tmp_path)[number]
    assert main([*command, "--output", str(file / below)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(file) in error
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.csv", "file"]


@pytest.mark.parametrize("number", range(5))
def test_an_output_where_nothing_can_be_written(small_features, tmp_path, capsys, monkeypatch, number):
    monkeypatch.setattr(folders.os, "access", lambda path, mode: False)  # root may write everywhere
    (tmp_path / "captions.csv").write_text("image,caption\na.png,x\n")
    command = commands_that_write(small_features, tmp_path)[number]
    assert main([*command, "--output", str(tmp_path / "a" / "b")]) == 2
    assert f"no permission to write in {tmp_path}; choose another --output" in capsys.readouterr().err


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "scenes"])
def test_a_package_that_is_not_installed(tmp_path, command):
    """One line that says what to install, in a process in which nobody can import torch or what builds on it."""
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text(
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'open_clip', 'timm'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    arguments = {
        "tiny": ["--output", "out", "--quick"],
        "features": ["--captions", "x", "--output", "out"],
        "train": ["--features", "x", "--output", "out"],
        "evaluate": ["--features", "x", "--projection", "x"],
        "ablate": ["--table", "losses", "--features", "x", "--output", "out"],
    }
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    program = [sys.executable, "-m", "training", command, *arguments[command]]
    done = subprocess.run(program, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(
        r"training: error: (torch|open_clip) is not installed; in a checkout of .*: pip install '\.\[train\]'\n",
        done.stderr,
    )
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["sitecustomize.py"]


@contextmanager
def running(program: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A command in a session of its own."""
    with subprocess.Popen(
        program, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hear_interrupts
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # it has ended, or the test has failed
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "status", "line"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_run_says_one_line_and_goes_on(small_features, tmp_path, number, status, line):
    """The signal goes to the whole group, as from a terminal or a service manager."""
    output = tmp_path / "run"
    program = [sys.executable, "-m", "training", "train", "--features", str(small_features), "--output", str(output)]
    program += ["--batch-size", "32", "--epochs"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with running([*program, "1000000"], environment) as process:
        assert process.stderr is not None
        assert "epoch 1 of 1000000" in process.stderr.readline()
        os.killpg(process.pid, number)
        rest = process.communicate(timeout=300)[1].splitlines()
    assert process.returncode == status
    assert rest[-1] == f"training: {line}"
    assert all(other.startswith("epoch ") for other in rest[:-1])
    done = len(rest)  # one epoch before them
    with safetensors.safe_open(output / "checkpoint.safetensors", framework="pt") as file:
        history = len(json.loads(file.metadata()["history"]))
    assert history >= done
    again = TrainConfig(features=small_features, output=output, batch_size=32, epochs=history + 1)
    assert len(train(again).history) == history + 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_workers_end_with_the_command(tmp_path, number):
    output = tmp_path / "scenes"
    program = [sys.executable, "-m", "training", "scenes", "--output", str(output), "--count", "100000", "--size", "56"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with running(program, environment) as process:
        while not any(folder.glob("images/*.png") for folder in tmp_path.glob(".scenes-*")):
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, number)
        error = process.communicate(timeout=300)[1]
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert ("training: interrupted\n" if number == signal.SIGINT else "training: terminated\n") in error
    assert not output.exists()


def test_train_and_evaluate_by_command(small_features, tmp_path, capsys):
    common = ["--features", str(small_features)]
    settings = ["--epochs", "2", "--batch-size", "32", "--learning-rate", "3e-3"]
    assert main(["train", *common, "--validation", str(small_features), "--output", str(tmp_path), *settings]) == 0
    assert main(["evaluate", *common, "--projection", str(tmp_path / "projection.pth")]) == 0
    assert capsys.readouterr().out.count(" to ") == 4
