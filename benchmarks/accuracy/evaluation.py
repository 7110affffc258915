"""Evaluates images in one process or several. Each gives a record, or the reason why it could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np
from tqdm import tqdm

from benchmarks.accuracy.dataset import DataSet, Sample
from benchmarks.accuracy.labelling import Labelled, Labeller, Pixels, Recipe
from benchmarks.accuracy.metric import Cells, Matrix, Truth, add_cells, confusion, mean_iou, to_cells
from benchmarks.accuracy.records import Against, ImageRecord, RecordFile
from benchmarks.accuracy.truth import LabelRule, read_truth
from t2d_runtime.errors import BackendError, DataError, ImageError, ImageNotFoundError
from t2d_runtime.image.reading import load_image
from t2d_runtime.image.windows import size_of
from t2d_runtime.proof.parity import LABEL_MARGIN
from training.processes import end_with_parent


@dataclass(frozen=True)
class Unreadable:
    """An image with an unusable file or label map."""

    name: str
    reason: str


@dataclass
class Evaluation:
    """The records of all images, and the images that were left out."""

    num_labels: int
    records: list[ImageRecord] = field(default_factory=list)
    skipped: list[Unreadable] = field(default_factory=list)

    @property
    def confusion(self) -> Matrix:
        """The bundle's confusion matrix, summed over the images."""
        return self._sum(record.cells for record in self.records)

    @property
    def reference_confusion(self) -> Matrix:
        """The reference's confusion matrix, summed over the images that it labelled."""
        return self._sum(record.against.cells for record in self.records if record.against is not None)

    def _sum(self, images: Iterable[Cells]) -> Matrix:
        matrix = np.zeros((self.num_labels, self.num_labels), np.int64)
        for cells in images:
            add_cells(matrix, cells)
        return matrix


def evaluate(
    data: DataSet, recipe: Recipe, file: RecordFile, done: Sequence[ImageRecord], *, processes: int, skip_bad: bool
) -> Evaluation:
    """Evaluate the images that are not in `done`, and append each record to the file.

    Raises DataError for an image or label map that cannot be used, unless `skip_bad`; BackendError where a process
    dies; and the errors of the recipe.
    """
    result = Evaluation(len(data.label_names), list(done))
    known = {record.name for record in done}
    left = [sample for sample in data.samples if sample.name not in known]
    matrix = result.confusion
    with (
        tqdm(total=len(data.samples), initial=len(done), desc=data.name, unit="image", disable=None) as bar,
        _outcomes(recipe, data.rule, left, processes) as outcomes,
    ):
        for outcome in outcomes:
            if isinstance(outcome, Unreadable):
                if not skip_bad:
                    raise DataError(f"{outcome.reason}; repair it, or leave such images out with --skip-bad")
                result.skipped.append(outcome)
            else:
                file.append(outcome)
                result.records.append(outcome)
                add_cells(matrix, outcome.cells)
                bar.set_postfix_str(f"mIoU {mean_iou(matrix):.4f}", refresh=False)
            bar.update()
    return result


@contextmanager
def _outcomes(
    recipe: Recipe, rule: LabelRule, samples: Sequence[Sample], processes: int
) -> Iterator[Iterator[ImageRecord | Unreadable]]:
    """The results of the samples, in their order."""
    processes = min(processes, len(samples))
    if processes == 0:
        yield iter(())
        return
    if processes == 1:
        label = recipe.open()
        yield (judge(label, rule, sample) for sample in samples)
        return
    context = get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_Worker.start, initargs=(recipe, rule))
    try:
        yield pool.map(_Worker.judge, samples)
    except BrokenProcessPool as error:
        raise BackendError(
            "a process ended by itself, perhaps for lack of memory; go on with --resume and fewer --processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)  # an error of one image stops the run at once


class _Worker:
    """State that a process of the pool keeps between images."""

    label: Labeller
    rule: LabelRule

    @classmethod
    def start(cls, recipe: Recipe, rule: LabelRule) -> None:
        end_with_parent()
        cls.label, cls.rule = recipe.open(), rule

    @classmethod
    def judge(cls, sample: Sample) -> ImageRecord | Unreadable:
        return judge(cls.label, cls.rule, sample)


def judge(label: Labeller, rule: LabelRule, sample: Sample) -> ImageRecord | Unreadable:
    """Label one image and compare it with its truth."""
    try:
        image, truth = read_sample(sample, rule)
    except (DataError, ImageError, ImageNotFoundError) as error:
        return Unreadable(sample.name, " ".join(str(error).split()))
    labelled = label(image)
    num_labels = len(rule.values)
    return ImageRecord(
        name=sample.name,
        cells=to_cells(confusion(truth, labelled.labels, num_labels)),
        against=_compare(labelled, truth, num_labels),
    )


def read_sample(sample: Sample, rule: LabelRule) -> tuple[Pixels, Truth]:
    """An image and its truth. Raises DataError, ImageError and ImageNotFoundError."""
    image = load_image(sample.image)
    return image, read_truth(sample.labels, rule, size_of(image))


def _compare(labelled: Labelled, truth: Truth, num_labels: int) -> Against | None:
    labels, theirs, margin = labelled
    if theirs is None or margin is None:
        return None
    differs = labels != theirs
    margins = margin[differs]
    return Against(
        cells=to_cells(confusion(truth, theirs, num_labels)),
        pixels=differs.size,
        differing=int(differs.sum()),
        below_margin=int((margins <= LABEL_MARGIN).sum()),
        largest_margin=float(margins.max(initial=0)),
    )
