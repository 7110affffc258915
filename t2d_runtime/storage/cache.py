"""The user's cache folder: compiled models, and the verdicts of self-tests on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from t2d_runtime.errors import OutputError
from t2d_runtime.storage.whole_file import whole_file

logger = logging.getLogger(__name__)

VARIABLE = "T2D_CACHE_DIR"
"""Environment variable that moves the cache folder."""


def cache_folder() -> Path:
    """Where this user's caches are kept: T2D_CACHE_DIR, else the platform's place."""
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "t2d-runtime"


def digest_of(*parts: object) -> str:
    """A key of 32 hexadecimal digits for anything with an exact repr."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def subfolder(*names: str) -> Path | None:
    """A folder of the cache, made where it is missing; None, with a warning, where it cannot be written."""
    folder = cache_folder().joinpath(*names)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
        reason = "no permission to write"
    except OSError as error:
        reason = str(error)
    logger.warning("nothing is cached: %s (%s); set %s to a folder that can be written", folder, reason, VARIABLE)
    return None


def recall(kind: str, key: str) -> dict[str, Any] | None:
    """What `remember` stored under a key, or None."""
    try:
        content = json.loads((cache_folder() / kind / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or cut short: made again
        return None
    return content if isinstance(content, dict) else None


def remember(kind: str, key: str, content: dict[str, Any]) -> None:
    """Store JSON under a key, whole or not at all."""
    folder = subfolder(kind)
    if folder is None:
        return
    try:
        with whole_file(folder / f"{key}.json") as file:
            file.write(json.dumps(content, indent=1).encode())
    except OutputError as error:
        logger.warning("not remembered: %s", error)
