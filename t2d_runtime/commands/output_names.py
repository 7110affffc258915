"""Names of the results of a run's images: short and distinct."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath

from t2d_runtime.commands.inputs import STANDARD_INPUT_NAME, InputImage
from t2d_runtime.errors import OptionError


def output_names(
    images: Sequence[InputImage], paths_of: Callable[[PurePath], Sequence[Path]], taken: Iterable[Path] = ()
) -> list[PurePath]:
    """The path of each image's results below the output folder, without their suffixes.

    Results are named after the image without its suffix, in its subfolder. Where several images would get one name,
    they keep their suffixes (IMG.jpg.json and IMG.png.json). Images of one name in two folders also get as many of
    their folders as tell them apart (a/IMG.json and b/IMG.json).
    `paths_of` gives the results' paths for a name; `taken` are paths that no image may have.
    Raises OptionError where nothing tells two images apart.
    """
    ways = [list(_ways(image)) for image in images]
    level = [0] * len(images)
    fixed = {_folded(path) for path in taken}
    while True:
        owners: dict[str, list[int]] = {}
        for index, names in enumerate(ways):
            for path in paths_of(names[level[index]]):
                owners.setdefault(_folded(path), []).append(index)
        crowded = [found for path, found in owners.items() if len(found) > 1 or path in fixed]
        if not crowded:
            return [names[level[index]] for index, names in enumerate(ways)]
        longer = {index for found in crowded for index in _to_lengthen(found, level, ways)}
        if not longer:
            first, *others = crowded[0]
            other = images[others[0]] if others else "the file of the whole run"
            raise OptionError(
                f"{images[first]} and {other} would both be written as {ways[first][level[first]]}.*; segment them "
                "into two --output folders"
            )
        for index in longer:
            level[index] += 1


def names_in_run(images: Sequence[InputImage]) -> list[str]:
    """The name of each image for files of the whole run, such as "holiday/beach.jpg".

    It is its path below the folder given. Images of one such name get as many of their folders as tell them apart.
    """
    ways = [[name.as_posix() for name in list(_ways(image))[1::2] or [PurePath(image.name_in_run)]] for image in images]
    level = [0] * len(images)
    while True:
        owners: dict[str, list[int]] = {}
        for index, names in enumerate(ways):
            owners.setdefault(names[level[index]], []).append(index)
        crowded = [index for found in owners.values() if len(found) > 1 for index in found]
        longer = [index for index in crowded if level[index] + 1 < len(ways[index])]
        if not longer:
            return [names[level[index]] for index, names in enumerate(ways)]
        for index in longer:
            level[index] += 1


def _to_lengthen(crowded: Sequence[int], level: Sequence[int], ways: Sequence[Sequence[PurePath]]) -> list[int]:
    """Among images with one name, those with the least exact name that can be made more exact."""
    able = [index for index in crowded if level[index] + 1 < len(ways[index])]
    least = min((level[index] for index in able), default=0)
    return [index for index in able if level[index] == least]


def _ways(image: InputImage) -> Iterable[PurePath]:
    """Names for an image, each more exact than the one before."""
    if image.path is None:
        yield PurePath(STANDARD_INPUT_NAME)
        return
    whole = Path(os.path.abspath(image.path))  # noqa: PTH100  without following links
    around = whole.parent.parts[1:]
    depth = len(image.folder.parts)
    for more in range(len(around) - depth + 1):
        folder = PurePath(*around[len(around) - depth - more :]) if more else image.folder
        yield folder / whole.stem
        yield folder / whole.name  # the same again without a suffix; the other image's whole name then differs


def _folded(path: Path) -> str:
    """A key that is equal for paths which some file system takes for one."""
    return unicodedata.normalize("NFC", str(path)).casefold()
