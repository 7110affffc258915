"""Sources of many files: those of a folder or a pattern, and those that come into a folder that is watched."""

from __future__ import annotations

import glob
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from t2d_runtime.errors import ImageError, T2DError
from t2d_runtime.image.folder_files import is_hidden, reason_against
from t2d_runtime.image.formats import image_suffixes
from t2d_runtime.storage.kinds import is_folder
from t2d_runtime.streams.files import Found, picture_frames, video_frames
from t2d_runtime.streams.frames import SourceFrame
from t2d_runtime.streams.kinds import VIDEO_SUFFIXES, is_video

WATCH_INTERVAL_S = 0.5
"""Seconds between two looks into a watched folder. A file is taken when it was the same at two looks."""


def listed_frames(files: Callable[[], Sequence[Path]], name: str) -> Found:
    """Frames of the files that a function lists. An error takes their place where there is none."""
    try:
        found = files()
    except T2DError as error:
        yield error
        return
    if not found:
        yield ImageError(f"{name} holds no picture or video")
    yield from _all_frames(found)


def watched_frames(folder: Path, stopped: threading.Event) -> Found:
    """Frames of the files in a folder, and of each new one, until `stopped`."""
    try:
        yield from _all_frames(watched_files(folder, stopped))
    except T2DError as error:  # the folder is gone
        yield error


def _all_frames(files: Iterable[Path]) -> Found:
    """Frames of one file after the other, pictures and videos, numbered through."""
    start = 0
    for path in files:
        number = start
        with closing(_frames_of(path)) as frames:
            for found in frames:
                if isinstance(found, SourceFrame):
                    number = start + found.index
                    found = replace(found, index=number)
                yield found
                del found
        start = number + 1


def _frames_of(path: Path) -> Found:
    try:
        video = is_video(path)
    except OSError as error:
        yield ImageError(f"{path} cannot be read: {error.strerror or error}")
        return
    yield from video_frames(path) if video else picture_frames(path, str(path))


def folder_files(folder: Path) -> list[Path]:
    """Pictures and videos in a folder by their names' order, without hidden files and this program's own results.

    Raises ImageError where it cannot be listed.
    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise ImageError(f"{folder} cannot be listed: {error.strerror or error}") from error
    return [path for path in found if not is_hidden(path.name) and _is_wanted(path)]


def pattern_files(pattern: str) -> list[Path]:
    """Pictures and videos that match a pattern, and those in matching folders."""
    files: list[Path] = []
    for path in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207  of paths anywhere
        files += folder_files(path) if is_folder(path) else [path] if _is_wanted(path) else []
    return files


def _is_wanted(path: Path) -> bool:
    return reason_against(path, image_suffixes() | VIDEO_SUFFIXES) is None


def watched_files(folder: Path, stopped: threading.Event) -> Iterator[Path]:
    """Pictures and videos of a folder, and then each new one when it is complete, until `stopped`.

    A file that is written anew is given again. A file is complete when size and time were the same at two looks.
    """
    given: dict[Path, tuple[int, int]] = {}
    seen: dict[Path, tuple[int, int]] = {}
    while not stopped.is_set():
        before, seen = seen, {}
        for path in folder_files(folder):
            state = _state(path)
            if state is None:
                continue
            seen[path] = state
            if state[0] and before.get(path) == state and given.get(path) != state:
                given[path] = state
                yield path
        given = {path: state for path, state in given.items() if path in seen}
        stopped.wait(WATCH_INTERVAL_S)


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change; None for a file that is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
