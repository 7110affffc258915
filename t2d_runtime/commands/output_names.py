"""Names of the results of a run's images: short, and each another."""

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
    """Where each image's results go below the output folder, without their suffixes.

    An image is called by its name without suffix, below its subfolder. Where results of several would have one name,
    those images are called by their whole names (IMG.jpg.json and IMG.png.json), and where they still would, as images
    of one name in two folders, by as many of their folders too as part them (a/IMG.json and b/IMG.json).
    `paths_of` gives the results' paths for a name; `taken` are paths that no image may have.
    Raises OptionError where nothing parts two images.
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


def _to_lengthen(crowded: Sequence[int], level: Sequence[int], ways: Sequence[Sequence[PurePath]]) -> list[int]:
    """Of images with one name those whose name is the least exact and can be more so."""
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
        yield folder / whole.name  # the same without a suffix: then the other one's whole name parts them


def _folded(path: Path) -> str:
    """The same for paths that some file system takes for one."""
    return unicodedata.normalize("NFC", str(path)).casefold()
