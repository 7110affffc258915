"""Fonts for names in any script: Pillow's own, or a system font that has the letters."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from t2d_runtime.errors import OptionError
from t2d_runtime.storage.reading import reason_against

if TYPE_CHECKING:
    from PIL import ImageFont

    Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

logger = logging.getLogger(__name__)

SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")

PREFERRED = ("sans", "gothic", "arial", "segoe", "hei", "uni")
"""Parts of the names of fonts for screens. Serif, monospaced, bold and slanted fonts are tried after them."""

AVOIDED = ("mono", "serif", "bold", "italic", "oblique", "black", "thin", "light", "emoji", "condensed")

NOT_A_CHARACTER = "\uffff"
"""A code that is in no font: it is drawn like every letter that a font lacks."""

PROBE_SIZE = 16
"""Height in pixels of letters drawn only to find out whether a font has them."""


def own_font(size: int) -> Font:
    """Pillow's own font, which has Latin letters only, `size` pixels high."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def opened_font(file: str | PathLike[str], size: int) -> Font:
    """A font from a TrueType or OpenType file. Raises OptionError where it cannot be read."""
    from PIL import ImageFont

    try:
        return ImageFont.truetype(fspath(file), size)
    except (OSError, ValueError, TypeError) as error:
        try:
            Path(file).open("rb").close()
            reason = str(error)
        except OSError as unreadable:
            reason = reason_against(unreadable)
        raise OptionError(f"font {file} cannot be read: {reason}; expected a TrueType or OpenType file") from error


def font_for(text: str, size: int) -> Font:
    """A font that has the letters of a text: Pillow's own, else a system font, else the one with most of the letters.

    Letters that no font here has are shown as boxes; a warning is logged once.
    """
    letters = frozenset(text) - frozenset(" \t\n")
    file = _file_for(letters)
    return own_font(size) if file is None else opened_font(file, size)


@lru_cache(maxsize=4096)
def _file_for(letters: frozenset[str]) -> Path | None:
    """The system font for some letters; None for Pillow's own."""
    best, missing = None, _missing(own_font(PROBE_SIZE), letters)
    if not missing:
        return None
    for file in _system_fonts():
        try:
            lacks = _missing(opened_font(file, PROBE_SIZE), letters)
        except (OSError, OptionError):  # a bitmap font, or a damaged one
            continue
        if len(lacks) < len(missing):
            best, missing = file, lacks
        if not missing:
            return best
    _warn("".join(sorted(missing)))
    return best


@lru_cache(maxsize=1024)
def _warn(letters: str) -> None:
    logger.warning("no font here has the letters %r: the legend shows boxes; name a font that has them", letters)


def _missing(font: Font, letters: frozenset[str]) -> frozenset[str]:
    """Letters that a font lacks: they look like NOT_A_CHARACTER."""
    blank = _drawn(font, NOT_A_CHARACTER)
    return frozenset(letter for letter in letters if letter.isprintable() and _drawn(font, letter) == blank)


def _drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[Path, ...]:
    """Files of the fonts installed here in a fixed order, fonts for screens first."""
    found = {file for folder in _font_folders() for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES}
    return tuple(sorted(found, key=_rank))


def _rank(file: Path) -> tuple[int, int, str]:
    name = file.stem.lower()
    avoided = sum(part in name for part in AVOIDED)
    return avoided - ("sansserif" in name), -any(part in name for part in PREFERRED), str(file)


def _font_folders() -> Iterator[Path]:
    """Folders in which this system and this user keep fonts."""
    home = os.path.expanduser("~")  # noqa: PTH111  stays "~" where there is no home
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"
        if "LOCALAPPDATA" in os.environ:
            yield Path(os.environ["LOCALAPPDATA"]) / "Microsoft" / "Windows" / "Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), Path(home) / "Library" / "Fonts")
    else:
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        own = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
        yield from (Path(folder) / "fonts" for folder in [own, *shared.split(":")] if folder)
        yield Path(home) / ".fonts"
