"""What the doctor calls an extra is what pyproject.toml installs for it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from t2d_runtime.commands.installation import EXTRA_PACKAGES

ROOT = Path(__file__).resolve().parents[2]

BACKENDS = {"cpu", "gpu", "openvino", "tensorrt"}
"""The doctor tries these instead."""

ROLES = {"export", "train", "bench", "dev", "all", "fast"}
"""Whole environments for work on models or on this project, and one that is empty."""

BROUGHT = {"tritonclient[grpc]": {"grpcio", "protobuf"}}
"""Packages that a requirement's own extra brings."""


def test_the_doctor_asks_for_the_packages_of_each_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {}
    for extra, requirements in project["optional-dependencies"].items():
        wanted = {re.split(r"[<>=]", requirement, maxsplit=1)[0] for requirement in requirements}
        asked[extra] = {name.partition("[")[0] for name in wanted}.union(*(BROUGHT.get(name, ()) for name in wanted))
    told = {extra: set(packages) for extra, packages in EXTRA_PACKAGES.items()}
    assert told == {extra: packages for extra, packages in asked.items() if extra not in BACKENDS | ROLES}
