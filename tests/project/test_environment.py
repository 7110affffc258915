"""`environment` of scripts/environment.sh: installed once, by uv, and by pip where uv cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/bin/sh
# Notes its arguments. An environment's Python is a copy of it; a uv that pip installs notes its own, and may fail.
echo "python $*" >>log
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *" uv")
    [ "$UV" = missing ] && exit 1
    printf '#!/bin/sh\\necho "uv $*" >>log\\n[ "$UV" = works ]\\n' >.venv-uv/bin/uv
    chmod +x .venv-uv/bin/uv ;;
  "-m pip install "*broken*) exit 1 ;;
esac
"""

UV = "uv pip install --quiet --compile-bytecode --python .venv-x/bin/python -c constraints.txt"
PIP = "python -m pip install --quiet --disable-pip-version-check -c constraints.txt"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("scripts/environment.sh", "pyproject.toml", "setup.py", "t2d_runtime/masks/pamr/pamr.c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "constraints.txt").write_text("uv==1\n")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def install(checkout: Path, uv: str, *requirements: str) -> tuple[int, list[str]]:
    """The status of `environment .venv-x REQUIREMENTS`, and what was called to install them."""
    (checkout / "log").write_text("")
    command = 'set -euo pipefail; source scripts/environment.sh; environment .venv-x "$@"'
    variables = os.environ | {"PYTHON": str(checkout / "python"), "UV": uv}
    done = subprocess.run(
        ["bash", "-c", command, "bash", *requirements], cwd=checkout, env=variables, capture_output=True, check=False
    )
    calls = (checkout / "log").read_text().splitlines()
    return done.returncode, [call for call in calls if " install " in call and not call.endswith(" uv")]


@pytest.mark.parametrize(
    ("uv", "calls"), [("works", [UV]), ("fails", [UV, PIP]), ("missing", [PIP])], ids=["works", "fails", "missing"]
)
def test_pip_installs_where_uv_cannot(checkout: Path, uv: str, calls: list[str]) -> None:
    assert install(checkout, uv, "-e", ".[dev]") == (0, [f"{call} -e .[dev]" for call in calls])


def test_a_second_run_installs_nothing_unless_its_packages_changed(checkout: Path) -> None:
    assert install(checkout, "works", "numpy")[1] == [f"{UV} numpy"]
    assert install(checkout, "works", "numpy") == (0, [])
    (checkout / "constraints.txt").write_text("uv==1\nnumpy==2\n")
    assert install(checkout, "works", "numpy")[1] == [f"{UV} numpy"]


def test_what_cannot_be_installed_is_an_error_each_time(checkout: Path) -> None:
    for _ in range(2):
        status, calls = install(checkout, "missing", "broken")
        assert status == 1
        assert calls == [f"{PIP} broken"]
