"""Images of a command line and the label files of a folder, paired by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from t2d_runtime.commands.inputs import InputImage
from t2d_runtime.errors import DataError, OptionError
from t2d_runtime.evaluation.label_files import label_name, read_labels, truth_of
from t2d_runtime.evaluation.score_samples import LabelledImage
from t2d_runtime.storage.kinds import is_folder
from t2d_runtime.storage.reading import reason_against

PREFERRED = (".npz", ".labels.png", ".grey.png")
"""Suffixes of label files in the order in which one is taken where a name has several; others come last."""


@dataclass(frozen=True)
class LabelledFile:
    """An image and its label file."""

    image: InputImage
    labels: Path

    @property
    def files(self) -> list[Path]:
        """Both files."""
        return [path for path in (self.image.path, self.labels) if path is not None]

    def load(self, classes: Sequence[str], label_names: Sequence[str] | None) -> LabelledImage:
        """The image's pixels and its truth. Raises ImageError and DataError."""
        truth, _ = truth_of(read_labels(self.labels), classes, label_names)
        return LabelledImage(self.image.load(), truth, name=str(self.image))


def find_label_files(folder: Path) -> dict[PurePath, Path]:
    """Name below the folder, without a suffix -> its label file.

    Raises OptionError where there is no folder, or where it or one below it cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise OptionError(f"cannot list {error.filename}: {reason_against(error)}") from error

    if not is_folder(folder):
        raise OptionError(f"{folder} is no folder; expected one with label maps")
    found: dict[PurePath, Path] = {}
    for root, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        below = Path(root).relative_to(folder)
        for file in sorted(files, key=_preference, reverse=True):  # the preferred one is taken last
            name = label_name(PurePath(file))
            if name is not None:
                found[below / name] = Path(root) / file
    return dict(sorted(found.items()))


def _preference(file: str) -> tuple[int, str]:
    place = next((place for place, suffix in enumerate(PREFERRED) if file.lower().endswith(suffix)), len(PREFERRED))
    return place, file


def pair_labels(images: Sequence[InputImage], folder: Path) -> list[LabelledFile]:
    """Each image with the label file of its name: that of `photo.jpg` is `photo.png` or `photo.jpg.png`, for example.

    Raises the problem of an image that cannot be read, OptionError for standard input and where a folder is missing,
    and DataError for images without labels.
    """
    labels = find_label_files(folder)
    pairs, missing = [], []
    for image in images:
        if image.problem is not None:
            raise image.problem
        if image.path is None:
            raise OptionError("an image from standard input has no name to find its labels by; give a file")
        names = (image.folder / image.path.stem, image.folder / image.path.name)
        path = next((labels[name] for name in names if name in labels), None)
        if path is None:
            missing.append(image.name_in_run)
        else:
            pairs.append(LabelledFile(image, path))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{folder} has no labels for {missing[0]}{more}; expected a file of the same name: .png, .tif or .npz"
        )
    return pairs


def check_label_files(
    pairs: Iterable[LabelledFile], classes: Sequence[str], label_names: Sequence[str] | None
) -> list[str]:
    """Reads all label files, before any image is encoded. Returns the names in them that are not classes.

    Raises DataError for unknown values, and where no class occurs in any file.
    """
    others: set[str] = set()
    occurs = False
    for pair in pairs:
        truth, names = truth_of(read_labels(pair.labels), classes, label_names)
        others |= names
        occurs = occurs or bool((truth > 0).any())
    if not occurs:
        found = f"; they have {', '.join(sorted(others))}" if others else ""
        raise DataError(f"none of the classes occurs in the labels{found}; are names and order those of the labels?")
    return sorted(others)
