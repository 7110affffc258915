"""Names of files that come from elsewhere: each must stay inside its folder, on every file system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
"""Names of devices on Windows, with any suffix."""

_FORBIDDEN = frozenset('<>:"|?*\\')
"""Characters that Windows does not take in names: a colon begins a drive or a stream, a backslash separates."""

LONGEST_PART = 255
"""Bytes of the longest name that file systems take."""


def unsafe(path: str) -> str | None:
    """The reason why a relative path with "/" must not be written; None where it stays inside its folder everywhere."""
    if not path or path.startswith("/"):
        return "is no relative path"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "leaves its folder, or has an empty part"
        if _FORBIDDEN & set(part) or any(unicodedata.category(sign) in ("Cc", "Cs") for sign in part):
            return "has a character that some file systems take for another"
        if part != part.strip() or part.endswith("."):
            return "begins or ends with a sign that Windows drops"
        if part.startswith("."):
            return "is a hidden name"
        if _RESERVED.fullmatch(part):
            return "is a device on Windows"
        if len(part.encode()) > LONGEST_PART:
            return "is too long"
    return None


def collision(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths that some file system takes for one file, or of which one is the other's folder; None without such."""
    seen: dict[str, str] = {}
    for path in paths:
        if (other := seen.setdefault(_folded(path), path)) != path:
            return other, path
    for folded, path in seen.items():
        parts = folded.split("/")
        for count in range(1, len(parts)):
            if (other := seen.get("/".join(parts[:count]), "")) != "":
                return other, path
    folders: dict[str, str] = {}
    for path in seen.values():
        parts = path.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            if (other := folders.setdefault(_folded(folder), folder)) != folder:
                return other, folder
    return None


def _folded(path: str) -> str:
    """A key that is equal for paths which some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
