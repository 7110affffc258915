"""The user's cache folder: compiled models, and the verdicts of self-tests on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from t2d_runtime.errors import OutputError
from t2d_runtime.storage.whole_file import whole_file

logger = logging.getLogger(__name__)

VARIABLE = "T2D_CACHE_DIR"
"""Environment variable that moves the cache folder."""


def cache_folder() -> Path | None:
    """Folder of this user's caches: T2D_CACHE_DIR, else the platform's place; None where the user has no home."""
    given = os.environ.get(VARIABLE)
    if given:  # empty means not set, since container tools pass unset variables so
        return Path(given)
    if sys.platform == "win32":
        base = _place("LOCALAPPDATA", "AppData/Local")
    elif sys.platform == "darwin":
        base = _place(None, "Library/Caches")
    else:
        base = _place("XDG_CACHE_HOME", ".cache")
    return None if base is None else base / "t2d-runtime"


def _place(variable: str | None, in_home: str) -> Path | None:
    given = os.environ.get(variable) if variable else None
    if given:
        return Path(given)
    try:
        return Path.home() / in_home
    except RuntimeError:  # no HOME, and the user is not known to the system, as in containers
        return None


def digest_of(*parts: object) -> str:
    """A key of 32 hexadecimal digits for anything with an exact repr."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def subfolder(*names: str) -> Path | None:
    """A folder of the cache, made if it is missing. None, with one warning, where it cannot be written."""
    cache = cache_folder()
    if cache is None:
        _warn("the user has no home folder")
        return None
    folder = cache.joinpath(*names)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
        reason = "no permission to write"
    except OSError as error:
        reason = error.strerror or str(error)
    _warn(f"{cache} ({reason})")
    return None


@lru_cache(maxsize=64)
def _warn(reason: str) -> None:
    """Log the warning once, since every engine and every verdict asks for a folder."""
    logger.warning("nothing is cached: %s; set %s to a folder that can be written", reason, VARIABLE)


def file_of(kind: str, key: str) -> Path | None:
    """The file in which `remember` stores a key; None where there is no cache folder."""
    cache = cache_folder()
    return None if cache is None else cache / kind / f"{key}.json"


def recall(kind: str, key: str) -> dict[str, Any] | None:
    """The content that `remember` stored under a key, or None; a damaged file is logged and counts as none."""
    path = file_of(kind, key)
    if path is None:
        return None
    try:
        content = json.loads(path.read_bytes())
    except OSError:
        return None
    except (ValueError, RecursionError) as error:  # cut short, or no JSON
        logger.warning("ignored: %s is damaged (%s)", path, error)
        return None
    if isinstance(content, dict):
        return content
    logger.warning("ignored: %s is damaged (it holds no object)", path)
    return None


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
