"""The command for emulated processors, with this machine's own Python in the emulated one's place."""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.emulated import command as emulated

GOOD = "def test_good(): pass\n"
BAD = "def test_bad(): raise ValueError('planted')\n"


@pytest.fixture
def arguments(exported_bundle: Path) -> list[str]:
    unit = {"x86_64": "SSE2", "AMD64": "SSE2"}.get(platform.machine(), "ASIMD")
    options = {"--bundle": exported_bundle, "--python": sys.executable, "--machine": platform.machine(), "--unit": unit}
    return ["emulated", *(str(part) for option in options.items() for part in option)]


def write_tests(folder: Path, **files: str) -> list[str]:
    paths = {folder / f"test_{name}.py": text for name, text in files.items()}
    for path, text in paths.items():
        path.write_text(text)
    return [str(path) for path in paths]


def test_labels_and_tests_are_counted(arguments: list[str], tmp_path: Path) -> None:
    saved = tmp_path / "results.json"
    assert main([*arguments, *write_tests(tmp_path, good=GOOD), "--json", str(saved)]) == 0
    figures: dict[str, Any] = json.loads(saved.read_text())["figures"]
    (labels,) = figures["labels"]
    assert labels["equal"] == labels["pixels"] == 224 * 224
    assert labels["certain_equal"] == labels["certain"] > 0.9 * labels["pixels"]
    assert figures["machine"] == platform.machine()
    assert [(done["file"], done["passed"], done["failed"]) for done in figures["tests"]] == [("test_good.py", 1, 0)]
    assert figures["total"]["passed"] == 1


def test_a_failed_test_and_a_process_that_breaks_off_fail_the_command(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(emulated.Emulated, "labels", lambda self, backend: equal_labels(backend, 0))
    files = write_tests(tmp_path, good=GOOD, bad=GOOD + BAD, broken="import os\ndef test_broken(): os._exit(3)\n")
    assert main([*arguments, *files, "--processes", "3"]) == 1
    captured = capsys.readouterr()
    assert "2 passed, 2 failed, 0 skipped" in captured.out
    assert "planted" in captured.out
    assert "ended with status 3" in captured.out


def test_a_run_that_is_interrupted_keeps_what_is_done(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "results.json"

    def interrupted_at_the_second(_: emulated.Emulated, file: Path) -> emulated.TestFile:
        if file.stem == "test_first":
            return emulated.TestFile(file.name, 1, 0, 0, 0.1)
        while not saved.is_file():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(emulated.Emulated, "labels", lambda self, backend: equal_labels(backend, 0))
    monkeypatch.setattr(emulated.Emulated, "test", interrupted_at_the_second)
    assert main([*arguments, *write_tests(tmp_path, first=GOOD, second=GOOD), "--json", str(saved)]) == 130
    figures: dict[str, Any] = json.loads(saved.read_text())["figures"]
    assert [done["file"] for done in figures["tests"]] == ["test_first.py"]
    assert figures["left_out"][-1] == "test_second"


def test_figures_of_other_files_are_kept_where_asked(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(emulated.Emulated, "labels", lambda self, backend: equal_labels(backend, 0))
    saved = tmp_path / "results.json"
    good, better = write_tests(tmp_path, good=GOOD + BAD, better=GOOD)
    assert main([*arguments, good, better, "--json", str(saved)]) == 1
    write_tests(tmp_path, good=GOOD)
    assert main([*arguments, good, "--json", str(saved), "--keep"]) == 0
    figures: dict[str, Any] = json.loads(saved.read_text())["figures"]
    assert [(done["file"], done["passed"], done["failed"]) for done in figures["tests"]] == [
        ("test_better.py", 1, 0),
        ("test_good.py", 1, 0),
    ]
    assert (figures["total"]["passed"], figures["total"]["failed"]) == (2, 0)
    assert main([*arguments, good, "--keep"]) == 2
    saved.write_text("{}")
    assert main([*arguments, good, "--keep", "--json", str(saved)]) == 2
    assert "holds no figures to keep" in capsys.readouterr().err


@pytest.mark.parametrize(("wrong", "status"), [(0, 0), (1, 1)])
def test_a_label_that_may_not_differ_fails_the_command(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int, status: int
) -> None:
    monkeypatch.setattr(emulated.Emulated, "labels", lambda self, backend: equal_labels(backend, wrong))
    assert main([*arguments, *write_tests(tmp_path, good=GOOD)]) == status


def equal_labels(backend: str, wrong: int) -> emulated.Labels:
    return emulated.Labels(
        backend=backend,
        words=("sky",),
        size=(2, 2),
        pixels=4,
        equal=4 - wrong,
        certain=3,
        certain_equal=3 - wrong,
        seconds=0.1,
    )


@pytest.mark.parametrize("option", ["--machine", "--unit"])
def test_another_processor_proves_nothing(
    arguments: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, option, "VSX"]) == 2
    assert f"runs on {platform.machine()} with " in capsys.readouterr().err


def test_slow_files_are_left_out_unless_all_are_asked_for() -> None:
    faster, left_out = emulated.chosen([], every=False)
    every, none = emulated.chosen([], every=True)
    assert {path.stem for path in every} == {path.stem for path in faster} | set(left_out)
    assert set(left_out) == set(emulated.SLOW)
    assert none == []
    named, others = emulated.chosen([every[0], every[0]], every=False)
    assert (named, len(others)) == (every[:1], len(every) - 1)


def test_all_and_files_exclude_each_other(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--all", "tests/runtime/test_text.py"]) == 2
    assert "expected it or files, not both" in capsys.readouterr().err
