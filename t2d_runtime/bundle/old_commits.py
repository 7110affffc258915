"""Older commits of pulled bundles in the cache. Nothing else removes them, and each is as large as its weights."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from t2d_runtime.bundle.files import PULLED
from t2d_runtime.bundle.from_hub import incoming_of
from t2d_runtime.errors import OutputError
from t2d_runtime.storage.alone import alone
from t2d_runtime.storage.compiled_models import size_of_folder
from t2d_runtime.storage.hub_names import COMMIT
from t2d_runtime.storage.in_use import remove_unused


@dataclass(frozen=True)
class Removed:
    """The outcome of `remove_old_commits`."""

    commits: int
    size_bytes: int
    in_use: int
    """Commits that a program works with, or another process is pulling. They stay."""


def remove_old_commits(kept: Path) -> Removed:
    """Remove the other commits of a pulled bundle from the cache, with the parts of their downloads.

    `kept` is the folder that `pull` gave. A commit stays that a `Segmenter` of any process has open.
    """
    commits = size = in_use = 0
    for folder in _others(kept):
        freed = size_of_folder(folder) + size_of_folder(incoming_of(folder))
        if _remove(folder):
            commits, size = commits + 1, size + freed
        else:
            in_use += 1
    return Removed(commits, size, in_use)


def _remove(folder: Path) -> bool:
    try:
        with alone(folder, wait=False):
            shutil.rmtree(incoming_of(folder), ignore_errors=True)
            return not folder.exists() or remove_unused(folder / PULLED)
    except OutputError:  # another process is pulling it
        return False


def _others(kept: Path) -> list[Path]:
    """Folders of the other commits, whether they are whole or only begun."""
    names = {path.name.partition(".")[0] for path in kept.parent.iterdir() if path.is_dir()}
    return [kept.with_name(name) for name in sorted(names - {kept.name}) if COMMIT.fullmatch(name)]
