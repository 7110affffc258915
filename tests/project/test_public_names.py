"""The list of public names in docs/embedding.md: each exists, and each that the package exports is in it."""

from __future__ import annotations

import re
from pathlib import Path

import t2d_runtime
from t2d_runtime import ClassEmbeddings, ImageEncoding, Segmentation
from t2d_runtime.streams import sinks

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAME = re.compile(r"`([A-Za-z_]+)`")


def rows() -> dict[str, set[str]]:
    """Public name -> the attributes named in its row and in those below it that name nothing else."""
    section = (DOCS / "embedding.md").read_text(encoding="utf-8").split("## Public names")[1].split("\n## ")[0]
    found: dict[str, set[str]] = {}
    name = ""
    for line in section.splitlines():
        if line.startswith(("| `", "| |")):
            _, first, second, _ = line.split("|")
            name = first.strip(" `") or name
            found.setdefault(name, set()).update(NAME.findall(second))
    return found


def test_the_list_has_all_names_of_the_package() -> None:
    assert set(rows()) - {""} == set(t2d_runtime.__all__)


def test_every_attribute_in_the_list_exists() -> None:
    found = rows()
    for name in ("Segmenter", "FusedSegmenter"):
        assert all(hasattr(getattr(t2d_runtime, name), attribute) for attribute in found[name]), name
    for kind in (ClassEmbeddings, ImageEncoding, Segmentation):
        known = {*dir(kind), *kind.__dataclass_fields__}
        assert found[kind.__name__] <= known, kind


def test_the_sinks_of_the_document_can_be_imported() -> None:
    text = (DOCS / "video.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+Sink)\(", text))
    assert named == set(sinks.__all__)
    assert all(getattr(sinks, name).__name__ == name for name in named)
