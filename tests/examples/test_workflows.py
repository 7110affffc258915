"""The GitHub workflows are valid."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKFLOWS = sorted((HERE.parents[1] / ".github" / "workflows").glob("*.yml"))


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("node")
    assert program is not None, "Node.js is missing"
    command = [program, str(HERE / "lint-workflows.mjs"), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_workflows_are_valid() -> None:
    assert len(WORKFLOWS) >= 2
    done = lint(*WORKFLOWS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_fault_is_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.yml").write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "runs-at:", 1))
    done = lint(tmp_path / "wrong.yml")
    assert done.returncode == 1
    assert 'unexpected key "runs-at"' in done.stdout
