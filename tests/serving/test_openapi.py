"""The service answers as its own OpenAPI says: requests made from it, right ones and wrong ones, by schemathesis.

That a picture of the right size is a picture cannot be said in a schema, so a request that fits it may be refused.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .conftest import Running


def test_a_short_run_of_schemathesis(server: Running, tmp_path: Path) -> None:
    """The full one: `schemathesis run http://localhost:8000/openapi.json --exclude-checks positive_data_acceptance`."""
    options = ["--exclude-checks", "positive_data_acceptance", "--max-examples", "12", "--seed", "1", "--no-color"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}openapi.json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:]
    assert int(re.findall(r"(\d+) generated", done.stdout)[-1]) > 50
