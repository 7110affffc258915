"""The images that a command line names: files, folders, patterns, standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

from t2d_runtime.commands.protection import identity
from t2d_runtime.errors import ImageError, OptionError, T2DError
from t2d_runtime.image.folder_files import HIDDEN, is_hidden, reason_against
from t2d_runtime.storage.kinds import is_folder, is_pipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
STANDARD_INPUT_NAME = "stdin"
"""Name of the results for standard input: stdin.overlay.png."""

FOLDER, TWICE = "subfolders, which --recursive enters", "images given twice"
"""More reasons why a file is left out."""


_NO_FOLDER = PurePath()


@dataclass(frozen=True)
class InputImage:
    """One image of a run, or something given as an image that cannot be read."""

    path: Path | None
    """None: standard input."""
    folder: PurePath = _NO_FOLDER
    """Subfolder of the given folder that holds the image. The output folder has the same subfolders."""
    problem: T2DError | None = None
    """The error that `load` raises."""
    content: bytes | None = None
    """The encoded picture, where it was fetched already."""

    def __str__(self) -> str:
        return "standard input" if self.path is None else str(self.path)

    @property
    def name_in_run(self) -> str:
        """Its name below the folder given, such as "holiday/beach.jpg"."""
        return STANDARD_INPUT_NAME if self.path is None else (self.folder / self.path.name).as_posix()

    def fetched(self) -> InputImage:
        """The image with the bytes of its pipe, for which this may wait for ever; a file's are read by `load`."""
        if self.problem is not None or not (self.path is None or is_pipe(self.path)):
            return self
        try:
            if self.path is None:
                # Not through the buffer: Python ends badly while a thread that is left behind waits in that.
                return replace(self, content=_all_of(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer), str(self)))
            with self.path.open("rb", buffering=0) as stream:
                return replace(self, content=_all_of(stream, str(self)))
        except T2DError as problem:
            return replace(self, problem=problem)
        except OSError as error:
            return replace(self, problem=ImageError(f"{self} cannot be read: {error.strerror or error}"))

    def load(self) -> NDArray[np.uint8]:
        """RGB pixels (H,W,3) uint8; raises as `load_image`."""
        from t2d_runtime.image.encoded import decode
        from t2d_runtime.image.reading import load_image
        from t2d_runtime.image.sizes import pixel_limit

        image = self if self.content is not None else self.fetched()
        if image.problem is not None:
            raise image.problem
        if image.content is not None:
            return decode(image.content, str(self), pixel_limit(None), allow_truncated=False)
        return load_image(image.path)  # type: ignore[arg-type]  # a file's: standard input's was fetched


@dataclass
class FoundImages:
    """The images of a run in order, and the files left out of folders: reason -> count."""

    images: list[InputImage] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def left_out_line(self) -> str:
        """A line about the files left out; empty where there are none."""
        return _in_words(self.left_out)


def find_images(arguments: Sequence[str], *, recursive: bool) -> FoundImages:
    """Images given by name, and the images in folders and patterns.

    In a folder, the suffix tells an image, or the first bytes where there is no suffix. A pattern such as *.png is
    expanded where no file has that name, for shells that do not expand it. Hidden files, results of earlier runs and
    other files in a folder are left out and counted. An image given twice is taken once. An argument that cannot be
    listed or holds no image is in the list with its `problem`.
    """
    found = FoundImages()
    seen: set[object] = set()
    for argument in arguments:
        for image in _images_of(argument, found.left_out, recursive=recursive):
            key = _key(image)
            if key in seen:
                found.left_out[TWICE] += 1
            else:
                seen.add(key)
                found.images.append(image)
    return found


def may_be_folders(arguments: Sequence[str]) -> bool:
    """True where one of the arguments is a folder, or a pattern, which may match folders."""
    return any(is_folder(Path(argument)) or glob.has_magic(argument) for argument in arguments)


def _images_of(argument: str, left_out: Counter[str], *, recursive: bool) -> Iterator[InputImage]:
    path = Path(argument)
    if argument in STANDARD_INPUT:
        yield InputImage(None)
    elif argument and is_folder(path):
        yield from _folder_images(path, left_out, recursive=recursive)
    elif glob.has_magic(argument) and not os.path.lexists(argument):
        yield from _matches(argument, left_out, recursive=recursive)
    elif not argument:
        yield InputImage(path, problem=OptionError("an image's name is empty; expected a file, a folder or -"))
    else:
        yield InputImage(path)


def _matches(pattern: str, left_out: Counter[str], *, recursive: bool) -> Iterator[InputImage]:
    """The images that match a pattern, and the images in matching folders."""
    here: Counter[str] = Counter()
    empty = True
    for match in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207  of paths anywhere
        if is_folder(match):
            empty = False
            yield from _folder_images(match, left_out, recursive=recursive)
        elif (reason := reason_against(match, _suffixes())) is not None:
            here[reason] += 1
        else:
            empty = False
            yield InputImage(match)
    left_out.update(here)
    if empty:
        message = f"no image matches {pattern!r}; expected images or a folder"
        yield InputImage(Path(pattern), problem=OptionError("; ".join(filter(None, (message, _in_words(here))))))


def _folder_images(folder: Path, left_out: Counter[str], *, recursive: bool) -> Iterator[InputImage]:
    """The images of one given folder, and with `recursive` those of its subfolders."""
    here: Counter[str] = Counter()
    empty = True
    for image in _walk(folder, PurePath(), here, {identity(folder)}, recursive=recursive):
        empty = False
        yield image
    left_out.update(here)
    if empty:
        message = f"{folder} holds no image; expected JPEG, PNG or others that Pillow reads"
        yield InputImage(folder, problem=OptionError("; ".join(filter(None, (message, _in_words(here))))))


def _in_words(left_out: Counter[str]) -> str:
    reasons = [f"{reason} ({count})" for reason, count in sorted(left_out.items()) if count]
    return f"left out: {', '.join(reasons)}" if reasons else ""


def _walk(
    folder: Path, below: PurePath, left_out: Counter[str], entered: set[object], *, recursive: bool
) -> Iterator[InputImage]:
    """The images of a folder, then those of its subfolders. Links must not lead back into `entered` folders."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        reason = f"{folder} cannot be listed: {error.strerror}; expected a folder of images"
        yield InputImage(folder, problem=OptionError(reason))
        return
    folders = []
    for path in entries:
        if is_hidden(path.name):
            left_out[HIDDEN] += 1
        elif is_folder(path):
            folders.append(path)
        elif (why := reason_against(path, _suffixes())) is not None:
            left_out[why] += 1
        else:
            yield InputImage(path, below)
    for inside in folders:
        if not recursive:
            left_out[FOLDER] += 1
        elif not (inside.is_symlink() and _leads_into(inside, entered)):
            entered.add(identity(inside))
            yield from _walk(inside, below / inside.name, left_out, entered, recursive=True)


def _leads_into(link: Path, entered: set[object]) -> bool:
    """True where a link leads to an entered folder or into one: its images are found without the link."""
    target = link.resolve()
    return any(identity(folder) in entered for folder in (target, *target.parents))


@cache
def _suffixes() -> frozenset[str]:
    from t2d_runtime.image.formats import image_suffixes

    return image_suffixes()


def _key(image: InputImage) -> object:
    """Identity of a file, whatever the spelling of its folder or the links to it. A link to a file counts by itself."""
    if image.path is None:
        return STANDARD_INPUT_NAME
    file = identity(image.path)
    if file is None:
        return os.path.abspath(image.path)  # noqa: PTH100  without following links
    # Where the file system ignores case, names that differ only in case are one file.
    return identity(image.path.parent), file, image.path.name.casefold()


def _all_of(stream: BinaryIO, name: str) -> bytes:
    from t2d_runtime.image.sizes import pixel_limit
    from t2d_runtime.image.sources import read_file

    content, _ = read_file(stream, pixel_limit(None))
    if not content:
        raise ImageError(f"{name} is empty, expected an image")
    return content
