"""`scripts/test`: which areas there are, and what becomes of one that fails."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PASSES = "#!/bin/sh\necho '===== 3 passed in 1.02s ====='\n"
FAILS = """#!/bin/sh
case "$*" in
  *tests/{0}*) echo 'FAILED tests/{0}/test_x.py::test_y'; echo '== 1 failed, 2 passed in 61.0s (0:01:01) =='; exit 1 ;;
esac
echo '===== 3 passed in 1.02s ====='
"""


def bash(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with `scripts/test`, and programs that pass in place of all that it runs."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "dist").mkdir()
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts")
    (tmp_path / "scripts" / "environment.sh").write_text("environment() { :; }\ntest_bundle() { :; }\n")
    (tmp_path / "scripts" / "javascript").write_text("")
    for program in (
        ".venv/bin/python",
        ".venv/bin/ruff",
        ".venv/bin/mypy",
        ".venv-wheel/bin/python",
        ".venv-streams/bin/python",
        ".venv-serving/bin/python",
        ".venv-triton/bin/python",
        ".venv-cluster/bin/python",
    ):
        write_program(tmp_path / program, PASSES)
    return tmp_path


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def areas() -> list[str]:
    """As an unknown one is told."""
    done = bash(ROOT, "scripts/test", "nothing")
    assert done.returncode == 2
    return done.stderr.removeprefix("unknown area 'nothing', expected one of: ").split()


def test_every_folder_of_tests_is_an_area() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert {*folders, "lint", "wheel"} <= set(areas())


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_areas(option: str) -> None:
    done = bash(ROOT, "scripts/test", option)
    assert done.returncode == 0
    assert done.stdout.endswith(f"without AREA all of them: {' '.join(areas())}\n")


def test_all_areas_pass(checkout: Path) -> None:
    done = bash(checkout, "scripts/test")
    assert done.returncode == 0
    *_, wheel, last = done.stdout.splitlines()
    assert last.startswith(f"all {len(areas())} areas passed in 0:")
    assert wheel.split()[0] == "wheel"
    assert wheel.endswith("passed   3 passed in 1.02s")


@pytest.mark.parametrize("area", ["export", "examples", "lint"])
def test_a_failed_area_does_not_keep_the_others_from_running(checkout: Path, area: str) -> None:
    if area == "lint":
        write_program(checkout / ".venv" / "bin" / "ruff", "#!/bin/sh\nexit 1\n")
    else:
        write_program(checkout / ".venv" / "bin" / "python", FAILS.format(area))
    done = bash(checkout, "scripts/test")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[-1].startswith(f"FAILED: {area}; see build/test-logs")
    count = len(areas())
    table = {line.split()[0]: line.split()[2] for line in lines[-1 - count : -1]}
    assert list(table) == areas()
    assert {name for name, result in table.items() if result == "FAILED"} == {area}
    if area != "lint":
        assert f"FAILED tests/{area}/test_x.py::test_y" in lines[-2 - count]
        assert bash(checkout, "scripts/test", area).returncode == 1
        assert bash(checkout, "scripts/test", "runtime").returncode == 0


def test_arguments_go_to_pytest(checkout: Path) -> None:
    write_program(checkout / ".venv" / "bin" / "python", '#!/bin/sh\necho "$@"\n')
    whole, part = "tests/runtime -k words", "tests/runtime/test_text.py -x"
    for arguments, expected in (("-k words", whole), (part, part)):
        done = bash(checkout, "scripts/test", "runtime", *arguments.split())
        assert done.stdout.strip().endswith(f"--dist worksteal {expected}")
