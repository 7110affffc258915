"""Data sets of the evaluation: images with their label maps, the labels' names, and the protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks.accuracy.truth import LARGEST_VALUE, LabelRule
from t2d_runtime.errors import ClassNamesError, DataError, OptionError
from t2d_runtime.results.label_map import BACKGROUND
from t2d_runtime.words.class_files import read_class_file

FOLDER: Final = "folder"
"""Name of data other than the published benchmarks."""

NAMED_AT_MOST: Final = 3
"""Most files that an error names; it counts the others."""


@dataclass(frozen=True)
class Sample:
    """One image and its label map."""

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class DataSet:
    """Images, labels, and the protocol of their segmentation."""

    name: str
    samples: tuple[Sample, ...]
    label_names: tuple[str, ...]
    """Label -> name; background first where there is one."""
    rule: LabelRule
    background: bool
    cleaning: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names to encode: all except the background's."""
        return self.label_names[self.background :]

    @property
    def digest(self) -> str:
        """Identity of the data: names and sizes of all files, values and names of the labels."""
        files = [(s.name, s.image.stat().st_size, s.labels.stat().st_size) for s in self.samples]
        content = json.dumps([files, self.label_names, self.rule.values, self.rule.ignored])
        return hashlib.sha256(content.encode()).hexdigest()


def check_files(samples: Sequence[Sample], repair: str) -> None:
    """Raise DataError, which ends with `repair`, where an image or a label map is missing."""
    missing = [str(path) for sample in samples for path in (sample.image, sample.labels) if not path.is_file()]
    if missing:
        named = ", ".join(missing[:NAMED_AT_MOST])
        others = f" and {len(missing) - NAMED_AT_MOST} more" if len(missing) > NAMED_AT_MOST else ""
        raise DataError(f"{len(missing)} of {2 * len(samples)} files are missing: {named}{others}; {repair}")


def folder_data(
    images: Path,
    labels: Path,
    classes_file: Path,
    *,
    ignored: Sequence[int],
    background_label: int | None,
    limit: int | None = None,
) -> DataSet:
    """The first `limit` images of any folder, with a folder of label PNGs with the same names and a list of classes.

    The classes have the values 0, 1, 2, ... in their order, except the background's value and the ignored ones.
    Raises DataError for folders that do not match, ClassNamesError, OptionError for impossible values.
    """
    names = read_class_names(classes_file)
    taken = [*ignored, *([] if background_label is None else [background_label])]
    if len(set(taken)) < len(taken) or not all(0 <= value <= LARGEST_VALUE for value in taken):
        raise OptionError(
            f"--ignore {list(ignored)} and --background-label {background_label}: expected different values of "
            f"0 to {LARGEST_VALUE}"
        )
    free = [value for value in range(len(names) + len(taken)) if value not in taken][: len(names)]
    background = background_label is not None
    return DataSet(
        name=FOLDER,
        samples=pair_files(images, labels)[:limit],
        label_names=(BACKGROUND, *names) if background else names,
        rule=LabelRule((background_label, *free) if background_label is not None else tuple(free), tuple(ignored)),
        background=background,
        cleaning=background,
    )


def pair_files(images: Path, labels: Path) -> tuple[Sample, ...]:
    """Every image of a folder with the label map of the same name. Raises DataError where either is missing."""
    for option, folder in (("--images", images), ("--labels", labels)):
        if not folder.is_dir():
            raise DataError(f"{option} {folder} is not a folder")
    suffixes = Image.registered_extensions()
    found: dict[str, Path] = {}
    for path in sorted(path for path in images.iterdir() if path.suffix.lower() in suffixes):
        if found.setdefault(path.stem, path) is not path:
            raise DataError(f"{found[path.stem]} and {path} have one name; expected one image for each label map")
    maps = {path.stem: path for path in labels.iterdir() if path.suffix.lower() == ".png"}
    alone = sorted(found.keys() ^ maps.keys())
    if alone or not found:
        raise DataError(
            f"--images {images} holds {len(found)} images, --labels {labels} {len(maps)} PNG files; expected a label "
            "map NAME.png for every image NAME.*" + (f"; without the other: {alone[:NAMED_AT_MOST]}" if alone else "")
        )
    return tuple(Sample(stem, path, maps[stem]) for stem, path in found.items())


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names of a file in the runtime's format, with one phrase for each class. Raises ClassNamesError."""
    found = read_class_file(path)
    if found.all_phrases != found.names or found.thresholds:
        raise ClassNamesError(f"{path} holds more than names; expected one name for each value of the label maps")
    return found.names
