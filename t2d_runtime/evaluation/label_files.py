"""Reads label files: PNG and TIFF pictures whose values are labels, and .npz files with names.

Label pictures of `t2d segment` have palette indices or grey values. Their names are in the JSON file beside them, where
that was written too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import DataError, ImageError
from t2d_runtime.image.encoded import decoding
from t2d_runtime.image.formats import kind_of, open_as, without_process_limit
from t2d_runtime.image.sizes import check_size, pixel_limit
from t2d_runtime.results.label_map import BACKGROUND, MAX_LABELS
from t2d_runtime.storage.kinds import is_file
from t2d_runtime.storage.npz import NPZ_ERRORS, read_npz
from t2d_runtime.storage.own_files import GENERATOR_KEY, PROGRAM
from t2d_runtime.storage.reading import check_readable
from t2d_runtime.words.text import shortened

SUFFIXES = (".labels.png", ".grey.png", ".png", ".tif", ".tiff", ".npz")
"""Suffixes of label files; the first that fits is taken off for the name that pairs a file with another."""

NO_LABELS = (".overlay.png", ".scores.npz")
"""Suffixes of results that hold no labels."""

INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
"""Pillow's modes with one whole number a pixel: grey, palette, 16 and 32 bits."""

IGNORED = -1
"""Truth of a pixel that does not count."""

IGNORED_VALUES = (255, 65535)
"""Values of label pictures that mean "does not count", where no name is theirs: the largest of 8 and 16 bits."""


@dataclass(frozen=True, eq=False)
class LabelFile:
    """A label map from a file."""

    path: Path
    labels: NDArray[np.uint16]
    """(H,W) the file's values."""
    names: tuple[str, ...] | None
    """Value -> name; None where no file says so."""


def label_name(path: PurePath) -> str | None:
    """The name of a label file without its suffix, by which files are paired; None for another file."""
    name = path.name
    if name.startswith(".") or name.lower().endswith(NO_LABELS):
        return None
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), None)
    return None if suffix is None else name[: -len(suffix)]


def read_labels(path: Path) -> LabelFile:
    """Read a label file. Raises DataError where it is none or cannot be read, and ImageError for a damaged picture."""
    if not is_file(path):
        raise DataError(f"{path}: no such file; expected a label map as PNG, TIFF or .npz")
    check_readable(path, DataError)
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    labels = _read_picture(path)
    names = _names_beside(path)
    if names is not None and labels.max(initial=0) >= len(names):
        raise DataError(
            f"{path} holds the value {labels.max()}, but the JSON file beside it names {len(names)} labels; "
            "move one of the two away"
        )
    return LabelFile(path, labels, names)


def _read_picture(path: Path) -> NDArray[np.uint16]:
    limit = pixel_limit(None)
    with decoding(str(path)):
        content = path.read_bytes()
        kind = kind_of(content)
        if kind not in ("PNG", "TIFF"):
            raise ImageError(f"{path} is neither PNG nor TIFF; expected a label map in one of these")
        with open_as(kind, content) as opened:
            check_size(opened.width, opened.height, str(path), limit)
            with without_process_limit(opened):
                opened.load()
            mode, values = opened.mode, np.asarray(opened)
    if mode not in INDEX_MODES:
        raise DataError(f"{path} is a picture of colours (mode {mode}); expected labels: palette indices or grey")
    if not 0 <= int(values.min()) <= int(values.max()) < MAX_LABELS:
        raise DataError(f"{path} holds values from {values.min()} to {values.max()}; expected 0 to {MAX_LABELS - 1}")
    return values.astype(np.uint16)


def _names_beside(path: Path) -> tuple[str, ...] | None:
    """Names of the labels from the JSON file that `t2d segment` wrote beside a label picture; None without one."""
    name = label_name(path)
    if name is None:
        return None
    try:
        content: Any = json.loads((path.parent / f"{name}.json").read_bytes())
        if not str(content[GENERATOR_KEY]).startswith(f"{PROGRAM} "):
            return None
        return tuple(str(label["name"]) for label in content["labels"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # another program's file of this name


def _read_npz(path: Path) -> LabelFile:
    try:
        arrays = read_npz(path)
        labels, names = arrays["label_map"], tuple(map(str, arrays["class_names"]))
    except NPZ_ERRORS as error:
        raise DataError(
            f"{path} cannot be read ({error}); expected the arrays label_map and class_names of "
            "'t2d segment --format npz'"
        ) from error
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or not labels.size:
        raise DataError(f"{path}: label_map is {labels.dtype} {labels.shape}, expected whole numbers (H,W)")
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        raise DataError(f"{path} holds labels from {labels.min()} to {labels.max()} and {len(names)} names")
    return LabelFile(path, labels.astype(np.uint16), names)


def truth_of(
    file: LabelFile, classes: Sequence[str], label_names: Sequence[str] | None = None
) -> tuple[NDArray[np.int32], frozenset[str]]:
    """The truth (H,W) of a label file: 0 background, 1 + the index in `classes`, or IGNORED; and the other names.

    The file's own names count, else `label_names` (value -> name), else 0 is background and the classes follow. Labels
    with other names than the classes are background. Values 255 and 65535 that have no name are ignored.
    Raises DataError for values without a name.
    """
    names = file.names or label_names or (BACKGROUND, *classes)
    table = np.full(MAX_LABELS, IGNORED - 1, np.int32)
    table[list(IGNORED_VALUES)] = IGNORED
    order = {name: index + 1 for index, name in enumerate(classes)}
    table[: len(names)] = [order.get(name, 0) for name in names]
    truth: NDArray[np.int32] = table[file.labels]
    if truth.min() < IGNORED:
        unknown = np.unique(file.labels[truth < IGNORED])[:5].tolist()
        raise DataError(
            f"{file.path} holds the values {', '.join(map(str, unknown))}, but the labels are 0 to {len(names) - 1}: "
            f"{shortened(', '.join(names), 100)}; name the values, from 0, in a file for --label-names"
        )
    present = [names[value] for value in np.unique(file.labels) if value < len(names)]
    return truth, frozenset(name for name in present if name not in order and name != BACKGROUND)
