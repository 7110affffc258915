"""A worker of the cluster: one engine, which segments pictures and writes the dataset's parts."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from t2d_runtime import __version__
from t2d_runtime.cluster.dataset import Mask, Row, counts_of_part, part_name, write_part
from t2d_runtime.cluster.images import Files, Picture, Shard, Unit, pictures_of
from t2d_runtime.cluster.places import Place, shown_path
from t2d_runtime.errors import ITEM_ERRORS, ClusterError, ImageError, T2DError
from t2d_runtime.image.encoded import decode
from t2d_runtime.image.sizes import pixel_limit
from t2d_runtime.overlap import overlapped_by_name
from t2d_runtime.results.label_map import label_counts, label_means

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from t2d_runtime.image.encoding import ImageEncoding
    from t2d_runtime.opening import Postprocess
    from t2d_runtime.results.options import SegmentationSettings, SegmentOptions
    from t2d_runtime.results.segmentation import Segmentation
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.words.class_list import ClassList
    from t2d_runtime.words.vocabulary import ClassEmbeddings

FAILURES_TOLD = 20
"""Failures of a run, and so of one part at most, that are told by name; all are in the rows."""


@dataclass(frozen=True)
class Engine:
    """The engine of every worker."""

    bundle: str
    """Its folder under the same path on every machine, or its name on a hub."""
    digest: str
    """Digest of the manifest that the bundle must have."""
    backend: str
    precision: str
    threads: int
    postprocess: Postprocess

    def open(self) -> Segmenter:
        """Open it on this machine. Raises ClusterError where the bundle is another, else as `Segmenter.open`."""
        from t2d_runtime.segmenter import Segmenter

        segmenter = Segmenter.open(
            self.bundle,
            backend=self.backend,
            precision=self.precision,
            num_threads=self.threads,
            postprocess=self.postprocess,
        )
        if segmenter.manifest.digest != self.digest:
            raise ClusterError(
                f"{self.bundle} is another bundle on a machine of the cluster (digest "
                f"{segmenter.manifest.digest[:12]}…, here {self.digest[:12]}…); copy it again"
            )
        return segmenter


@dataclass(frozen=True)
class Prepared:
    """The words and settings of a run, made once on one machine of the cluster."""

    version: str
    classes: ClassEmbeddings
    settings: SegmentationSettings
    engine_description: str


def prepare(
    engine: Engine, words: ClassList | ClassEmbeddings, templates: tuple[str, ...], options: SegmentOptions
) -> Prepared:
    """Encode the words and check everything on one machine. Raises the errors of `Segmenter`."""
    from t2d_runtime.words.vocabulary import ClassEmbeddings

    segmenter = engine.open()
    classes = words if isinstance(words, ClassEmbeddings) else segmenter.encoders.encode_classes(words, templates)
    settings = segmenter.check_options(classes, **options)
    return Prepared(__version__, classes, settings, segmenter.engine_description)


@dataclass(frozen=True)
class Task:
    """All that a worker needs besides the pictures."""

    engine: Engine
    classes: ClassEmbeddings
    options: SegmentOptions
    output: Place
    settings: Mapping[str, Any]
    """The settings in the dataset."""
    rows_per_file: int


@dataclass(frozen=True)
class Written:
    """A part, as a worker reports it."""

    part: str
    pictures: int
    failed: int
    failures: tuple[tuple[str, str], ...] = ()
    """Paths and errors of the first pictures that failed."""


@dataclass(frozen=True)
class Lost:
    """Report of a unit that is given up: the process that had it has ended too often."""


Report = Written | Lost | T2DError | None
"""A written part, a unit that is given up, an error that ends the run, or None at a unit's end."""

MOST_ATTEMPTS = 4
"""Times that a unit is begun. Ray begins it again where the worker's process or its machine has ended."""


class Attempts:
    """Counts how often each unit was begun, in a process of its own."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def begin(self, unit: int) -> int:
        """The number of times that a unit was begun, this one included."""
        self._counts[unit] = self._counts.get(unit, 0) + 1
        return self._counts[unit]


class Worker:
    """Segments units of pictures. Ray makes one for each device, and again where its process ended."""

    def __init__(self, task: Task, begin: Callable[[int], int]) -> None:
        self._task = task
        self._begin = begin
        self._segmenter: Segmenter | None = None
        self._fault: T2DError | None = None
        try:
            self._segmenter = task.engine.open()
        except T2DError as error:
            self._fault = error  # told in one line by the command, which Ray's own errors are not

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """Segment a batch of pickled units.

        Yields a pickled Report of each part when it is written, then one of the unit; `unit` is the unit's number.
        """
        for number, packed in zip(batch["number"], batch["unit"], strict=True):
            for report in self._reports(int(number), pickle.loads(packed)):
                yield {"unit": [int(number)], "report": [pickle.dumps(report)]}

    def _reports(self, number: int, unit: Unit) -> Iterator[Report]:
        if self._segmenter is None:
            yield self._fault
            return
        if self._begin(number) > MOST_ATTEMPTS:
            yield Lost()
            return
        try:
            yield from self._parts(self._segmenter, unit)
        except T2DError as error:  # the dataset cannot be written
            yield error
            return
        yield None

    def _parts(self, segmenter: Segmenter, unit: Unit) -> Iterator[Written]:
        task = self._task
        if isinstance(unit, Files):  # a batch that is done again, since its process ended before it was reported
            name = part_name(shown_path(unit.root, path) for path in unit.paths)
            counts = counts_of_part(task.output, name)
            if counts is not None:
                yield Written(name, *counts)
                return
        # A shard's last part says so: the shard is then not opened again.
        finished = (str(unit.place),) if isinstance(unit, Shard) else ()
        with closing(_segmented(segmenter, pictures_of(unit), task.classes, task.options)) as rows:
            for part, last in _grouped(rows, task.rows_per_file):
                name = write_part(task.output, part, task.settings, finished if last else ())
                failed = [(row["path"], row["error"]) for row in part if row["error"] is not None]
                yield Written(name, len(part), len(failed), tuple(failed[:FAILURES_TOLD]))


def _grouped(rows: Iterable[Row], size: int) -> Iterator[tuple[list[Row], bool]]:
    """Rows in groups of a size, the last one shorter, each with whether it is the last one."""
    group: list[Row] = []
    for row in rows:
        if len(group) == size:
            yield group, False
            group = []
        group.append(row)
    if group:
        yield group, True


def _segmented(
    segmenter: Segmenter, pictures: Iterator[Picture], classes: ClassEmbeddings, options: SegmentOptions
) -> Generator[Row, None, None]:
    """The rows of pictures, in order: while one is encoded, the next is read and the one before gets its labels."""
    window = options.get("window") or "slide"
    of_encoding: SegmentOptions = {**options, "window": None, "keep_confidence": True}
    limit = pixel_limit(None)

    def load(picture: Picture) -> NDArray[np.uint8]:
        if not isinstance(picture.content, bytes):
            raise picture.content
        return decode(picture.content, picture.path, limit, allow_truncated=False)

    def label(encoding: ImageEncoding) -> tuple[int, int, list[Mask]]:
        result = segmenter.segment(encoding, classes, **of_encoding)
        return *result.label_map.shape, masks_of(result)

    named = ((picture.path, picture) for picture in pictures)
    stages = (load, partial(segmenter.encode_image, window=window), label)
    with closing(overlapped_by_name(named, stages)) as results:
        for path, done in results:
            error = done.exception()
            if error is not None and not isinstance(error, ITEM_ERRORS):
                raise error
            yield failed_row(path, error) if error is not None else _done(path, *done.result())


def _done(path: str, height: int, width: int, masks: list[Mask]) -> Row:
    return {"path": path, "height": height, "width": width, "masks": masks, "error": None}


def failed_row(path: str, error: BaseException) -> Row:
    """The row of a picture that failed."""
    reason = str(error) if isinstance(error, T2DError) else f"{type(error).__name__}: {error}"
    return {"path": path, "height": None, "width": None, "masks": None, "error": " ".join(reason.split())}


def masks_of(result: Segmentation) -> list[Mask]:
    """The labels of a result made with `keep_confidence` that have a pixel."""
    from t2d_runtime.results.shapes.rle import rle_of_labels

    if result.confidence is None:
        raise ImageError("the result has no scores; segment with keep_confidence=True")
    names = result.class_names
    counts = label_counts(result.label_map, len(names))
    means = label_means(result.label_map, counts, result.confidence)
    return [
        {
            "label": label,
            "name": name,
            "pixels": int(counts[label]),
            "mean_score": mean,
            "size": code["size"],
            "counts": code["counts"],
        }
        for label, (name, mean, code) in enumerate(
            zip(names, means, rle_of_labels(result.label_map, len(names)), strict=True)
        )
        if mean is not None
    ]
