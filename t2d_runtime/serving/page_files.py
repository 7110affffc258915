"""Files of the page, read once: no request names a path."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "page"

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

ADDRESSES = {"index.html": "/", "docs.html": "/docs", "live.html": "/watch"}

LIVE_FILES = ("live.html", "live.js", "parts.js")
"""Files of the page that shows a live source."""


@dataclass(frozen=True)
class PageFile:
    """A file of the page."""

    content: bytes
    media_type: str
    etag: str


def page_files(*, live: bool) -> dict[str, PageFile]:
    """The pages' files by their address; with `live`, those for a live source too."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in MEDIA_TYPES:
            content, name = path.read_bytes(), path.relative_to(FOLDER).as_posix()
            if name in LIVE_FILES and not live:
                continue
            file = PageFile(content, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
            found[ADDRESSES.get(name, f"/{name}")] = file
    return found
