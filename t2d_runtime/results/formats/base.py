"""Interfaces of formats: one file for each image, or one file for a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from t2d_runtime.results.segmentation import Segmentation


@dataclass(frozen=True)
class OutputOptions:
    """Options of the formats that draw."""

    legend: bool = True
    font: Path | None = None
    """Font file of the legend's names; None finds a font that has their letters."""


class Planes(Protocol):
    """Scores plane by plane: an array (N,H,W), or `ScorePlanes`, which computes each plane on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,H,W)."""

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Planes (H,W), 0 to 1, of the classes without background."""


@dataclass(frozen=True)
class ImageResult:
    """One image's result, the input of formats."""

    segmentation: Segmentation
    image: str
    """The image's name in the run, such as "holiday/beach.jpg"."""
    scores: Planes | None = None
    """The scores, where `segmentation` does not keep them."""
    source: Path | bytes | None = None
    """The image's file, or its content where that came through a pipe; None where it is neither."""
    folder: Path | None = None
    """The folder of the image's own result files, set by `ResultWriter`."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class FileFormat:
    """A format with a file for each image."""

    name: str
    """Name of the format for `--format`."""
    suffix: str
    """Appended to the image's name."""
    description: str
    """Content of the file in a few words, for the help."""
    write: Callable[[BinaryIO, ImageResult, OutputOptions], None]
    """Writes one result into an open file. The file must say that this program wrote it, so that a later run may
    replace it: see `t2d_runtime.storage.own_files`."""
    mean_scores: bool = False
    """True where the file also holds mean scores, or the confidence, of results that keep their confidence."""
    check: Callable[[], None] = _nothing
    """Called before any work. Raises MissingPackageError where a package is missing that the format needs."""


class RunWriter(Protocol):
    """Writes the results of a run into one file, as they come."""

    def add(self, item: ImageResult) -> None:
        """Add one result to the file."""

    def finish(self) -> None:
        """Write the end of the file. Not called after an interrupt: the file is then removed."""

    def close(self) -> None:
        """Free what the writer holds besides the file. Called at last in every case."""


@dataclass(frozen=True)
class RunFormat:
    """A format with one file for all images of a run."""

    name: str
    """Name of the format for `--format`."""
    file_name: str
    """Name of the file in the output folder."""
    description: str
    """Content of the file in a few words, for the help."""
    begin: Callable[[BinaryIO, OutputOptions], RunWriter]
    """Called with the open file before the first result. The file must say that this program wrote it."""
    mean_scores: bool = False
    """True where the file also holds mean scores of results that keep their confidence."""
    check: Callable[[], None] = _nothing
    """Called before any work. Raises MissingPackageError where a package is missing that the format needs."""
