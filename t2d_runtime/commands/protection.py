"""Protection of the user's files: no output replaces an input, or a file that another program wrote."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from t2d_runtime.errors import OutputError
from t2d_runtime.storage.kinds import is_file, is_folder
from t2d_runtime.storage.own_files import is_own, refuse_foreign

FILE_ARGUMENTS = ("classes_file", "label_names", "vocabulary", "prompts", "font", "image")
"""Command arguments that may name an input file."""

Identity = tuple[int, int] | str


def identity(path: Path) -> Identity | None:
    """Identity of a file or folder, the same for every name: links, other spellings, other letter cases.

    None where there is no such file.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.normcase(os.path.realpath(path))


def files_given(args: argparse.Namespace) -> list[Path]:
    """Existing files that a command's arguments name as inputs, besides the images."""
    named = (getattr(args, name, None) for name in FILE_ARGUMENTS)
    return [Path(path) for path in named if path is not None and is_file(Path(path))]


class Inputs:
    """Files that a run reads, and must not write."""

    def __init__(self, files: Iterable[Path], bundle: Path | str | None = None) -> None:
        self._files = {found: file for file in files if (found := identity(file)) is not None}
        # The files of a bundle from a hub are in the user's cache, where no result is written.
        self._bundle = identity(bundle) if isinstance(bundle, Path) else None
        self._in_bundle: dict[Path, bool] = {}

    def refuse(self, path: Path) -> None:
        """Raises OutputError where an output's path is one of the run's inputs or a file of the bundle."""
        found = identity(path)
        if found is None:
            return
        if found in self._files:
            raise OutputError(
                f"{path} would be written, but it is an input of this run ({self._files[found]}); choose another "
                "--output, or leave it out"
            )
        if self._is_in_bundle(path.parent) and not is_own(path):
            raise OutputError(f"{path} would be written, but it is a file of the bundle; choose another --output")

    def _is_in_bundle(self, folder: Path) -> bool:
        if folder not in self._in_bundle:
            around = (folder.resolve(), *folder.resolve().parents)
            self._in_bundle[folder] = self._bundle is not None and self._bundle in map(identity, around)
        return self._in_bundle[folder]


def check_output(path: Path, inputs: Iterable[Path], bundle: Path | str, *, overwrite: bool) -> None:
    """Raises OutputError where a command's one output must not be written."""
    Inputs(inputs, bundle).refuse(path)
    refuse_foreign(path, overwrite=overwrite)


def check_folder(folder: Path) -> None:
    """Raises OutputError where an output folder can be neither made nor written to."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not is_folder(existing):
        raise OutputError(f"cannot write into {folder}: {existing} is not a folder; choose another --output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write into {folder}: no permission for {existing}; choose a folder that this user may write to"
        )
