"""What a format is: a file for each image, or one file that collects a whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from t2d_runtime.results.segmentation import Segmentation


@dataclass(frozen=True)
class OutputOptions:
    """Options of the formats that draw."""

    legend: bool = True
    font: Path | None = None
    """Font file of the legend's names; None finds one that has their letters."""


@dataclass(frozen=True)
class FileFormat:
    """A format with a file for each image."""

    name: str
    """As `--format` takes it."""
    suffix: str
    """Appended to the image's name."""
    description: str
    """What the file holds, in a few words, for the help."""
    write: Callable[[BinaryIO, Segmentation, OutputOptions], None]
    """Writes one result into an open file. The file says that this program wrote it, so that a later run may replace
    it: see `t2d_runtime.storage.own_files`."""
    needs_scores: bool = False
    """Whether results must have been made with `keep_scores=True`."""


class RunWriter(Protocol):
    """Writes the results of a run into one file, as they come."""

    def add(self, result: Segmentation, image: str) -> None:
        """Take one result in; `image` is the image's name in the run, such as "holiday/beach.jpg"."""

    def finish(self) -> None:
        """Write what follows the last result. Not called where the run was interrupted: then the file goes."""


@dataclass(frozen=True)
class RunFormat:
    """A format with one file for all images of a run."""

    name: str
    """As `--format` takes it."""
    file_name: str
    """Name of the file in the output folder."""
    description: str
    """What the file holds, in a few words, for the help."""
    begin: Callable[[BinaryIO, OutputOptions], RunWriter]
    """Called with the open file before the first result. The file says that this program wrote it."""
    needs_scores: bool = False
    """Whether results must have been made with `keep_scores=True`."""
