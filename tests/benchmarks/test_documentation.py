"""What the documents say: links lead somewhere, and the service's code runs as it stands."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = re.compile(r"(^|/)(\.[^/]+|node_modules|build|output)/")
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not NOT_OURS.search(path.relative_to(ROOT).as_posix()))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def links(text: str) -> Iterator[str]:
    """Targets outside of code."""
    for markdown, html in LINK.findall(re.sub(r"`[^`\n]+`", "code", FENCE.sub("", text))):
        yield markdown or html


def anchors(text: str) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        for title in titles
    }


def broken(document: Path, text: str) -> list[str]:
    """Links of a document to files and headings that are not there."""
    found = []
    for link in links(text):
        path, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = document.parent / path if path else document
        there = target.exists() and ROOT in target.resolve().parents
        if not there or (anchor and anchor not in anchors(text if not path else target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    assert broken(document, document.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found() -> None:
    text = "# A `b` title!\n[x](#a-b-title) [y](#none) ![z](docs/none.png)\n```\n[code](nowhere)\n```\n"
    text += "[w](docs/embedding.md#log)"
    assert broken(ROOT / "README.md", text) == ["#none", "docs/none.png"]
    assert len(DOCUMENTS) > 8


@pytest.fixture(scope="module")
def service(exported_bundle: Path) -> dict[str, Any]:
    """The names that the code of docs/embedding.md defines, with the small model in its bundle's place."""
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "service"}
    exec(code.replace('open("bundle"', f"open({str(exported_bundle)!r}"), names)
    return names


def test_the_services_code_answers(service: dict[str, Any]) -> None:
    answer: Callable[[bytes, list[str]], tuple[int, bytes]] = service["answer"]
    upload = io.BytesIO()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(upload, "PNG")
    status, body = answer(upload.getvalue(), ["sky", "sea"])
    assert status == 200
    assert Image.open(io.BytesIO(body)).size == (60, 40)
    assert answer(b"no picture", ["sky"])[0] == 415
    assert answer(upload.getvalue()[:-40], ["sky"])[0] == 415
    assert answer(upload.getvalue(), [])[0] == 422
    assert answer(upload.getvalue(), ["sky", "sky"])[0] == 422
    assert answer(upload.getvalue(), [f"thing {number}" for number in range(51)])[0] == 422
