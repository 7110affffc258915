"""docs/licences.md names every package that the project's extras install."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_has_its_row() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {"(always)": project["dependencies"], **project["optional-dependencies"]}
    wanted = {
        (extra, normalised(re.split(r"[\s\[<>=~!;]", requirement, maxsplit=1)[0]))
        for extra, requirements in extras.items()
        for requirement in requirements
        if not requirement.startswith(project["name"])
    }
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", _text(), re.MULTILINE)[1:]
    told = {(extra, normalised(package)) for extras_, package, licence in rows for extra in extras_.split(", ")}
    assert all(licence.strip() for _, _, licence in rows)
    assert {package for _, package in wanted} == {package for _, package in told}, (
        "a package without row, or a row more"
    )
    assert told - wanted == set(), "rows whose extra does not ask for the package"


def test_packages_of_the_examples_are_named() -> None:
    for example in ("node", "web", "vite"):
        package = json.loads((ROOT / "examples" / example / "package.json").read_text(encoding="utf-8"))
        needed = package["dependencies"] | package.get("devDependencies", {})
        others = [name for name, version in needed.items() if not version.startswith("file:")]
        assert [name for name in others if name not in _text()] == []


def _text() -> str:
    return (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
