"""One rule for the files of a folder or a pattern: which of them are inputs, and why the others are left out."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from t2d_runtime.storage.kinds import is_file
from t2d_runtime.storage.own_files import is_own

RESULT, HIDDEN, NO_IMAGE, NO_FILE = (
    "results of earlier runs",
    "hidden files",
    "other files than images",
    "devices, pipes or broken links",
)
"""Reasons why a file is left out."""

STARTS = (b"BM", b"\0\0\0\x0cjP  ", b"qoif")
"""First bytes of a few formats that `kind_of` does not tell for certain; enough for a file without a suffix."""


def is_hidden(name: str) -> bool:
    """True for a file that a folder gives to nobody. A pattern that begins with a dot names it all the same."""
    return name.startswith(".")


def reason_against(path: Path, suffixes: Set[str]) -> str | None:
    """The reason why a file is left out; None for one of the suffixes, or for an image without a suffix.

    This program's own results are left out by the mark in them, whatever their names.
    """
    suffix = path.suffix.lower()
    if not is_file(path):
        return NO_FILE
    if suffix not in suffixes and (suffix or not _begins_as_image(path)):
        return NO_IMAGE
    return RESULT if is_own(path) else None


def _begins_as_image(path: Path) -> bool:
    from t2d_runtime.image.formats import kind_of

    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError:
        return False
    return kind_of(start) is not None or start.startswith(STARTS)
