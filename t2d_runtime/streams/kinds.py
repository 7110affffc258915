"""Kinds of sources, told from what a caller gives. Nothing is opened here but a file's first bytes."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from t2d_runtime.errors import ImageError, ImageNotFoundError, OptionError
from t2d_runtime.image.formats import image_suffixes, kind_of
from t2d_runtime.storage.kinds import is_folder

SourceLike: TypeAlias = Any
"""A path, a pattern, an address or a camera's number; one image in any form; or an iterable of images."""


class Kind(Enum):
    """Kind of a source."""

    PICTURE = "picture"
    VIDEO = "video file"
    FOLDER = "folder"
    PATTERN = "pattern"
    URL = "address"
    RTSP = "network camera"
    CAMERA = "camera"
    IMAGES = "images"


LIVE = (Kind.RTSP, Kind.CAMERA)
"""Kinds that go on whether frames are taken or not. An address may be live too; that shows when it is opened."""

PLAYED = (Kind.VIDEO, Kind.URL)
"""Kinds that may be played in real time."""

TIMED = (Kind.VIDEO, Kind.URL, Kind.RTSP, Kind.CAMERA, Kind.FOLDER, Kind.PATTERN)
"""Kinds whose frames may have times."""

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "dv", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf", "m1v", "m2t", "m2ts"),
        *("m2v", "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogg", "ogv"),
        *("ts", "vob", "webm", "wmv", "y4m"),
    )
)
"""Suffixes that tell a video among the files of a folder. A single file is told by its first bytes."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_PASSWORD = re.compile(r"(?<=://)[^/?#]*@")
_CAMERA = re.compile(r"[0-9]{1,3}")
_BEGINNING = 256
"""First bytes of a file that are read to tell a picture."""


@dataclass(frozen=True, eq=False)
class GivenSource:
    """A source with its kind."""

    kind: Kind
    given: Any
    """The source as the caller gave it; a camera's number as int."""
    name: str
    """Name for messages and results: the text given, without a password."""


def source_of(given: SourceLike) -> GivenSource:
    """The kind of one source.

    Raises ImageNotFoundError for a missing file, ImageError for a path that cannot be read, and OptionError for
    anything that is no source.
    """
    if isinstance(given, bool) or given is None:
        raise OptionError(f"the source is {given!r}, expected {EXPECTED}")
    if isinstance(given, int):
        if given < 0:
            raise OptionError(f"the camera's number is {given}, expected 0, 1, ...")
        return GivenSource(Kind.CAMERA, given, str(given))
    if isinstance(given, np.ndarray):
        return GivenSource(Kind.IMAGES if given.ndim == 4 else Kind.PICTURE, given, "the array")
    if isinstance(given, Image.Image | bytes | bytearray | memoryview) or hasattr(given, "read"):
        return GivenSource(Kind.PICTURE, given, "the image")
    if isinstance(given, str):
        return GivenSource(Kind.CAMERA, int(given), given) if _CAMERA.fullmatch(given) else _named_source(given)
    if isinstance(given, PathLike):
        return _named_source(fspath(given))
    if isinstance(given, Iterable):
        return GivenSource(Kind.IMAGES, given, "the images")
    raise OptionError(f"the source is {type(given).__name__}, expected {EXPECTED}")


EXPECTED = (
    "a picture, a video file, a folder, a pattern such as '*.mp4', http:// or https://, rtsp://, a camera's number, "
    "an iterable of images, or a list of these"
)


def sources_of(given: SourceLike) -> tuple[GivenSource, ...]:
    """One source, or the sources in a list or tuple. A list of images alone is one source, an iterable of images."""
    if isinstance(given, list | tuple) and given and all(isinstance(one, str | PathLike | int) for one in given):
        return tuple(source_of(one) for one in given)
    return (source_of(given),)


def is_video(path: Path) -> bool:
    """True for a file that is no picture by its first bytes. GIF and animated PNG count as video. Raises OSError."""
    with path.open("rb") as file:
        start = file.read(_BEGINNING)
    kind = kind_of(start)
    if kind is None:  # formats without a clear beginning are told by their suffix
        return path.suffix.lower() not in image_suffixes() or path.suffix.lower() == ".gif"
    if kind == "JPEG":  # one after the other in a file of MJPEG
        return path.suffix.lower() in VIDEO_SUFFIXES
    return kind == "GIF" or (kind == "PNG" and b"acTL" in start)


def without_password(address: str) -> str:
    """An address without user name and password."""
    return _PASSWORD.sub("", address)


def _named_source(text: str | bytes) -> GivenSource:
    if not isinstance(text, str) or not text:
        raise OptionError(f"the source is {text!r}, expected {EXPECTED}")
    scheme = _SCHEME.match(text)
    if scheme is not None:
        kinds = {"http": Kind.URL, "https": Kind.URL, "rtsp": Kind.RTSP, "rtsps": Kind.RTSP}
        kind = kinds.get(scheme[1].lower())
        if kind is None:
            raise OptionError(f"{without_password(text)}: {scheme[1]}:// is no source, expected {EXPECTED}")
        return GivenSource(kind, text, without_password(text))
    path = Path(text)
    if is_folder(path):
        return GivenSource(Kind.FOLDER, path, text)
    if glob.has_magic(text) and not os.path.lexists(text):
        return GivenSource(Kind.PATTERN, text, text)
    return _file_source(path, text)


def _file_source(path: Path, text: str) -> GivenSource:
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) and text.startswith("/dev/video"):
            return GivenSource(Kind.CAMERA, path, text)
        if not stat.S_ISREG(mode):
            raise ImageError(f"{text} is no file, folder or camera; expected {EXPECTED}")
        return GivenSource(Kind.VIDEO if is_video(path) else Kind.PICTURE, path, text)
    except FileNotFoundError as error:
        what = "camera" if text.startswith("/dev/video") else "file"
        raise ImageNotFoundError(f"{text}: no such {what}; expected {EXPECTED}") from error
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"{text} cannot be read: {getattr(error, 'strerror', None) or error}") from error
