"""Writes class files that `class_files` reads back as the same classes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from t2d_runtime.errors import ClassNamesError, OptionError
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY, TEXT_MARK, own_file
from t2d_runtime.words.class_files import classes_of_text
from t2d_runtime.words.class_list import ClassList


def write_class_file(path: Path, classes: ClassList, comment: Iterable[str] = (), *, overwrite: bool = False) -> None:
    """Write a class file that `read_class_file` reads back as the same classes: JSON where the suffix is .json, else
    text, which begins with lines of `comment`.

    Raises ClassNamesError for classes that text cannot hold (a name that is not its first phrase, a line break in a
    word), OutputError, also where another program's file has the name and `overwrite` is False.
    """
    if path.suffix.lower() == ".json":
        text = json.dumps(
            {
                GENERATOR_KEY: GENERATOR,
                "classes": {name: list(phrases) for name, phrases in classes.phrases.items()},
                "negatives": list(classes.negatives),
                "thresholds": dict(classes.thresholds),
            },
            ensure_ascii=False,
            indent=1,
        )
    else:
        text = "\n".join((f"# {TEXT_MARK}", *(f"# {line}" for line in comment), *map(_line_of, _groups(classes))))
        text += "".join(f"\n- {_escaped(phrase)}" for phrase in classes.negatives)
        if not _reads_back(text, classes):
            raise ClassNamesError(
                f"{path}: a text file cannot hold these classes, where a name is not its first phrase or a word has a "
                "line break; choose a name that ends in .json"
            )
    with own_file(path, overwrite=overwrite) as file:
        file.write((text + "\n").encode())


def _groups(classes: ClassList) -> Iterator[tuple[tuple[str, ...], float | None]]:
    return ((group, classes.thresholds.get(name)) for name, group in classes.phrases.items())


def _line_of(group: tuple[tuple[str, ...], float | None]) -> str:
    phrases, threshold = group
    line = "; ".join(map(_escaped, phrases))
    return line if threshold is None else f"{line} @{np.format_float_positional(threshold, trim='-')}"


def _escaped(phrase: str) -> str:
    """A phrase with a backslash before the signs that mean something in a file."""
    escaped = re.sub(r"[\\;#@,]", r"\\\g<0>", phrase)
    return f"\\{escaped}" if escaped.startswith("-") else escaped


def _reads_back(text: str, classes: ClassList) -> bool:
    try:
        return classes_of_text("the text", text) == classes
    except (ClassNamesError, OptionError):
        return False
