"""Who may know whom: packages, and the layers inside them. Imports inside functions count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "t2d_runtime": (),
    "t2d_export": ("t2d_runtime",),
    "training": ("t2d_runtime", "t2d_export"),
    "benchmarks": ("t2d_runtime", "t2d_export", "training"),
}
"""Package -> the others that it may import."""

LAYERS = {
    package: tuple(names.split())
    for package, names in {
        "t2d_runtime": "errors checks device storage bundle image words results masks backends encoders overlap "
        "batches proof opening streams frame_stages segmenter fused evaluation serving cluster bench commands cli "
        "__main__",
        "t2d_export": "architectures weights model encoders fused bundle engines export cli __main__",
        "training": "config device storage folders processes drawing features objective run evaluation small commands "
        "__main__",
    }.items()
}
"""Package -> its modules and folders, lowest first: each imports from its own and from those before it."""


class Import(NamedTuple):
    """One import of a module of this project."""

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_of(package: str) -> Iterator[Import]:
    for path in sorted((ROOT / package).rglob("*.py")):
        file = path.relative_to(ROOT)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno}: a relative import"
                for name in node.names:
                    yield Import(file, node.lineno, f"{node.module}.{name.name}")
            elif isinstance(node, ast.Import):
                for name in node.names:
                    yield Import(file, node.lineno, name.name)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_know_only_those_below_them(package: str) -> None:
    others = set(PACKAGES) - {package, *PACKAGES[package]}
    assert [str(found) for found in imports_of(package) if found.module.split(".")[0] in others] == []


@pytest.mark.parametrize("package", LAYERS)
def test_no_import_goes_upwards(package: str) -> None:
    order = LAYERS[package]
    upward = []
    for found in imports_of(package):
        parts = found.module.split(".")
        if parts[0] != package or (found.file.name == "__init__.py" and len(found.file.parts) == 2):
            continue  # the package's own front hands out names from anywhere
        if len(parts) > 2 or (ROOT / package / parts[1]).exists() or (ROOT / package / f"{parts[1]}.py").exists():
            own, other = found.file.with_suffix("").parts[1], parts[1]
            if order.index(other) > order.index(own):
                upward.append(str(found))
    assert upward == []


def test_no_two_modules_import_each_other() -> None:
    """Through any number of others: the modules can be put in one order."""
    graph: dict[str, set[str]] = {}
    for package in PACKAGES:
        for found in imports_of(package):
            own = ".".join(found.file.with_suffix("").parts).removesuffix(".__init__")
            imported = module_of(found.module)
            if imported is not None and imported != own and found.file.name != "__init__.py":
                graph.setdefault(own, set()).add(imported)
    done: set[str] = set()
    for module in graph:
        visit(module, graph, done, ())


def module_of(name: str) -> str | None:
    """The module of this project that an imported name is, or is in."""
    while name.split(".")[0] in PACKAGES:
        path = ROOT.joinpath(*name.split("."))
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return name
        name = name.rpartition(".")[0]
    return None


def visit(module: str, graph: dict[str, set[str]], done: set[str], on_the_way: tuple[str, ...]) -> None:
    assert module not in on_the_way, " -> ".join([*on_the_way[on_the_way.index(module) :], module])
    if module not in done:
        for imported in sorted(graph.get(module, ())):
            visit(imported, graph, done, (*on_the_way, module))
        done.add(module)
