"""Images to result files: reading, encoding, segmenting and writing overlap."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Unpack

from t2d_runtime.commands.inputs import InputImage
from t2d_runtime.commands.output_names import names_in_run, output_names
from t2d_runtime.commands.protection import Inputs
from t2d_runtime.errors import T2DError
from t2d_runtime.overlap import overlapped
from t2d_runtime.results.formats import ImageResult
from t2d_runtime.results.outputs import ResultWriter
from t2d_runtime.storage.own_files import refuse_foreign

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from t2d_runtime.image.encoding import ImageEncoding
    from t2d_runtime.results.options import SegmentOptions
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.words.vocabulary import ClassEmbeddings


@dataclass(frozen=True)
class PlannedImage:
    """An image and the name of its results."""

    image: InputImage
    name: PurePath
    """Below the output folder, without a suffix."""
    name_in_run: str
    """Name of the image in files of the whole run."""


@dataclass(frozen=True)
class SegmentedFile:
    """The result of one image."""

    image: InputImage
    summary: dict[str, Any]
    """The result of `Segmentation.summary`."""
    written: list[Path]
    encode_ms: float
    segment_ms: float


def plan_outputs(
    images: Sequence[InputImage], writer: ResultWriter, inputs: Inputs, *, overwrite: bool
) -> list[PlannedImage]:
    """The names of the results, before any work is done.

    Where a result must not replace another program's file, or its name is too long, the image has that as its
    `problem`. Raises OutputError where an output is an input: the names are then not what the user meant.
    """
    planned = []
    for path in writer.paths_of_run:
        inputs.refuse(path)
        refuse_foreign(path, overwrite=overwrite)
    names = output_names(images, writer.paths_of, writer.paths_of_run)
    for image, name, name_in_run in zip(images, names, names_in_run(images), strict=True):
        paths = writer.paths_of(name)
        for path in paths:
            inputs.refuse(path)
        planned.append(PlannedImage(_judged(image, paths, overwrite=overwrite), name, name_in_run))
    return planned


def _judged(image: InputImage, paths: Sequence[Path], *, overwrite: bool) -> InputImage:
    try:
        for path in paths:
            refuse_foreign(path, overwrite=overwrite)
    except T2DError as problem:
        return image if image.problem else replace(image, problem=problem)
    return image


def segment_files(
    segmenter: Segmenter,
    images: Sequence[PlannedImage],
    classes: ClassEmbeddings,
    writer: ResultWriter,
    **options: Unpack[SegmentOptions],
) -> Generator[Future[SegmentedFile], None, None]:
    """Segment images as `Segmenter.segment` does and write the results, in order, as they finish.

    A future raises the error of its own image; the images after it go on. Only a few images are in memory at a time.
    """
    window = options.pop("window", None) or "slide"

    def read(planned: PlannedImage) -> tuple[PlannedImage, NDArray[np.uint8]]:
        return planned, planned.image.load()

    def encode(loaded: tuple[PlannedImage, NDArray[np.uint8]]) -> tuple[PlannedImage, ImageEncoding, float]:
        start = time.perf_counter()
        encoding = segmenter.encode_image(loaded[1], window)
        return loaded[0], encoding, _ms_since(start)

    def segment(encoded: tuple[PlannedImage, ImageEncoding, float]) -> tuple[SegmentedFile, PurePath, ImageResult]:
        planned, encoding, encode_ms = encoded
        start = time.perf_counter()
        result = segmenter.segment(encoding, classes, **options)
        segment_ms = _ms_since(start)
        item = ImageResult(
            result,
            planned.name_in_run,
            segmenter.score_planes(encoding, classes, **options),  # computed while a format writes them
            planned.image.path if planned.image.content is None else planned.image.content,
        )
        return SegmentedFile(planned.image, result.summary(), [], encode_ms, segment_ms), planned.name, item

    def write(segmented: tuple[SegmentedFile, PurePath, ImageResult]) -> SegmentedFile:
        file, name, item = segmented
        return replace(file, written=writer.write(item, name))

    # Fetched as they are drawn, since that alone is not waited for when all is to end.
    fetched = (replace(planned, image=planned.image.fetched()) for planned in images)
    return overlapped(fetched, (read, encode, segment, write))


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
