"""The fused graph behind the runtime's interface: one engine call from the pixels of a whole image to its labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.base import Backend
from t2d_runtime.bundle.files import SEGMENTER, SELFTEST, Bundle
from t2d_runtime.bundle.from_hub import local_bundle
from t2d_runtime.bundle.manifest import Manifest, StageParity
from t2d_runtime.device.threads import checked_num_threads, default_num_threads
from t2d_runtime.errors import BackendError, ImageError, OptionError, T2DError
from t2d_runtime.image.reading import ImageLike, load_image
from t2d_runtime.image.windows import resized_size, size_of
from t2d_runtime.masks.labels import empty_labels
from t2d_runtime.masks.phrases import labels_of_classes, row_thresholds, scores_of_classes
from t2d_runtime.masks.postprocess import ScoreFilter
from t2d_runtime.masks.upsample import upsample
from t2d_runtime.proof.choice import open_for
from t2d_runtime.proof.parity import PRECISIONS, Judge, margin_of, with_background
from t2d_runtime.proof.selftest import PLANE_STEP, SelfTestVectors
from t2d_runtime.proof.verdicts import require_passed
from t2d_runtime.results.label_map import LabelMap
from t2d_runtime.results.options import (
    MaskOptions,
    SegmentationSettings,
    SegmentOptions,
    check_classes,
    label_names,
    resolve_options,
)
from t2d_runtime.results.origin import origin_of
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.kinds import SourceLike, sources_of
from t2d_runtime.streams.settings import Errors, StreamOptions, split_options
from t2d_runtime.streams.stream import FrameStream
from t2d_runtime.words.class_list import ClassNames
from t2d_runtime.words.vocabulary import ClassEmbeddings

logger = logging.getLogger(__name__)

LONGEST_SIDE = 1 << 18
"""Limit of an image's side in pixels: (2 x the longest window + 1) x the side must stay below 2^31."""

THRESHOLDS, THRESHOLD = "thresholds", "threshold"
"""The graph's input for a threshold of each row; graphs of older bundles have a scalar for all."""

NO_BACKGROUND = -1.0
"""A threshold that every score exceeds."""


class FusedSegmenter:
    """Segmentation by a bundle's fused graph on one backend. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, backend: Backend, *, precision: str, num_threads: int | None = None) -> None:
        self.bundle = bundle
        self.manifest: Manifest = bundle.manifest
        self.backend_name = backend.name
        self._engine_description = str(backend.identity)
        self.precision = precision
        logger.info("%s: %s in %s", backend.identity, SEGMENTER, precision)
        self._num_threads = num_threads or default_num_threads()
        self._engine = backend.load(bundle, SEGMENTER, precision=precision, num_threads=self._num_threads)
        self._of_rows = THRESHOLDS in self._engine.inputs

    def __reduce__(self) -> tuple[Callable[..., FusedSegmenter], tuple[object, ...]]:
        """Copies and pickles open the same bundle again, in the process where they are unpickled."""
        opening = partial(
            FusedSegmenter.open, backend=self.backend_name, precision=self.precision, num_threads=self._num_threads
        )
        return opening, (str(self.bundle.folder),)

    @classmethod
    def open(
        cls, bundle: str | Path, *, backend: str = "auto", precision: str = "fp32", num_threads: int | None = None
    ) -> FusedSegmenter:
        """Open a bundle exported with `--fused`. Arguments and errors are those of `Segmenter.open`, without "fast"."""
        num_threads = checked_num_threads(num_threads)
        if precision not in PRECISIONS:
            raise OptionError(f"precision is {precision!r}, expected one of {list(PRECISIONS)}")
        opened = Bundle.open(local_bundle(bundle, [precision], fused=True))
        chosen = open_for(opened, backend, precision, num_threads)
        segmenter = cls(opened, chosen, precision=precision, num_threads=num_threads)
        require_passed(opened, chosen, precision, (SEGMENTER,), segmenter.selftest)
        return segmenter

    def segment(
        self,
        image: ImageLike,
        classes: ClassEmbeddings,
        **options: Unpack[MaskOptions],
    ) -> Segmentation:
        """Label every pixel as `Segmenter.segment` does with `window="whole"`. Options are the same, without `window`.

        The graph has neither "paper" cleaning nor other dilations than the manifest's.

        Raises ImageError, ImageNotFoundError, OptionError, VocabularyError, ClassNamesError, BackendError.
        """
        settings = self._checked(classes, options)
        pixels = load_image(image)
        above = self._thresholds(classes, settings)
        labels, scores = self.run(
            pixels,
            classes.vectors,
            thresholds=above,
            cleaning_weight=settings.cleaning_weight if settings.cleaning else 0.0,
            pamr_iterations=settings.refine.iterations if settings.refine else 0,
        )
        keep_scores, keep_confidence = options.get("keep_scores"), options.get("keep_confidence")
        of_rows = empty_labels(size_of(labels), len(classes.vectors) + settings.background)
        of_rows[:] = labels if settings.background else labels - 1
        planes = upsample(scores, size_of(labels), align_corners=False) if keep_scores else None
        return Segmentation(
            image=pixels,
            label_map=labels_of_classes(of_rows, classes, background=settings.background),
            class_names=label_names(classes, settings),
            scores=None if planes is None else scores_of_classes(planes, classes),
            settings=settings,
            negatives=classes.negatives,
            confidence=_confidence(of_rows, scores, float(above.min()), settings) if keep_confidence else None,
            origin=origin_of(self.bundle.model_digest, self._engine_description, classes, self.manifest.prompt_sets),
        )

    def stream(
        self,
        source: SourceLike,
        classes: ClassEmbeddings,
        *,
        errors: Errors = "raise",
        **options: Unpack[StreamOptions],
    ) -> FrameStream[Frame | T2DError]:
        """Segment the frames of a video, a camera, a folder or another source, as `Segmenter.stream` does.

        Options are the same, without `window` and `smoothing`: the graph gives labels. Raises as `Segmenter.stream`.
        """
        from t2d_runtime.streams.running import stream_frames  # and its sources, which no other call needs

        given = sources_of(source)
        settings, mask_options = split_options(options, given, errors)
        if settings.smoothing:
            raise OptionError("the fused graph gives labels, and smooths no scores; use Segmenter for smoothing")
        self._checked(classes, mask_options)
        return stream_frames(given, _FrameStages(self, classes, mask_options), settings, errors)

    def _checked(self, classes: ClassEmbeddings, options: MaskOptions) -> SegmentationSettings:
        """The settings from the options. Raises the errors of `segment` for options and classes."""
        defaults = self.manifest.defaults
        if options.get("window") is not None:
            raise OptionError("the fused graph takes an image as one window; leave window out")
        settings = resolve_options(
            options, defaults, window="whole", backend=self.backend_name, precision=self.precision
        )
        if settings.cleaning == "paper":
            raise OptionError("the fused graph cleans as released, not as in the paper; use Segmenter for 'paper'")
        if settings.refine and settings.refine.dilations != defaults.pamr.dilations:
            raise OptionError(
                f"refine has dilations {settings.refine.dilations}, those of the fused graph are "
                f"{defaults.pamr.dilations}; use Segmenter for others"
            )
        check_classes(classes, self.bundle, background=settings.background)
        return settings

    def _thresholds(self, classes: ClassEmbeddings, settings: SegmentationSettings) -> NDArray[np.float32]:
        """The threshold (P,) of each phrase."""
        own = row_thresholds(classes, settings.threshold)
        if own is not None:
            return own
        return np.full(len(classes.vectors), settings.threshold if settings.background else NO_BACKGROUND, np.float32)

    def run(
        self,
        image: NDArray[np.uint8],
        text_embeds: NDArray[np.float32],
        *,
        thresholds: NDArray[np.float32],
        cleaning_weight: float,
        pamr_iterations: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Run the graph: image (H,W,3), embeddings and thresholds of N rows -> labels (H,W), scores (N,H',W').

        Labels are 0, where no row exceeds its threshold, or 1 + the row. A graph of an older bundle takes equal
        thresholds alone; others raise OptionError.
        """
        if max(image.shape) > LONGEST_SIDE:
            height, width, _ = image.shape
            raise ImageError(
                f"the image has {width} x {height} pixels, the fused graph takes sides up to {LONGEST_SIDE}; "
                "make it smaller"
            )
        if not self._of_rows and (thresholds != thresholds[0]).any():
            raise OptionError(
                "this bundle's fused graph has one threshold for all classes; export it again with --fused, or use "
                "Segmenter"
            )
        above = (THRESHOLDS, thresholds) if self._of_rows else (THRESHOLD, np.array(thresholds[0]))
        outputs = self._engine.run(
            {
                "image": image[np.newaxis],
                "text_embeds": text_embeds,
                above[0]: above[1],
                "cleaning_weight": np.array(cleaning_weight, np.float32),
                "pamr_iterations": np.array(pamr_iterations, np.int64),
            }
        )
        labels, scores = outputs["label_map"], outputs["scores"]
        if not np.isfinite(scores.sum()):
            raise BackendError(
                f"{self.backend_name} in {self.precision}: the fused graph gives scores that are not finite; choose "
                "another backend or precision"
            )
        return labels, scores

    def selftest(self) -> Iterator[StageParity]:
        """The part of the bundle's self-test that one window covers: scores before and after PAMR, and their labels."""
        vectors = SelfTestVectors.load(self.bundle.file(SELFTEST))
        window = vectors.first_window(self.manifest.windows)
        defaults, judge = self.manifest.defaults, Judge.of(self.precision)
        for stage, expected, iterations in (
            ("upsampled", vectors.upsampled, 0),
            ("refined", vectors.refined, defaults.pamr.iterations),
        ):
            labels, scores = self.run(
                window,
                vectors.text_embeds,
                thresholds=np.full(len(vectors.text_embeds), defaults.threshold, np.float32),
                cleaning_weight=defaults.cleaning_weight,
                pamr_iterations=iterations,
            )
            yield judge.scores(stage, expected, scores[:, ::PLANE_STEP, ::PLANE_STEP])
            ranked = with_background(expected, defaults.threshold)  # ties go to the background, as in the graph
            seen = labels[::PLANE_STEP, ::PLANE_STEP]
            yield judge.labels(f"{stage} labels", ranked.argmax(axis=0), seen, margin_of(ranked))


def _confidence(
    of_rows: LabelMap, scores: NDArray[np.float32], lowest: float, settings: SegmentationSettings
) -> NDArray[np.float32]:
    """The winning score (H,W) of each pixel from the labels of rows and the scores (N,H',W'), a plane at a time.

    That of background is the lowest threshold.
    """
    size, first = size_of(of_rows), int(settings.background)
    confidence = np.full(size, lowest, np.float32)
    for row, plane in enumerate(scores):
        chosen = of_rows == row + first
        if chosen.any():
            np.copyto(confidence, upsample(plane[np.newaxis], size, align_corners=False)[0], where=chosen)
    return confidence


@dataclass(frozen=True, eq=False)
class _FrameStages:
    """A stream's frames in one stage, since the graph gives labels at once."""

    segmenter: FusedSegmenter
    classes: ClassEmbeddings
    options: MaskOptions

    @property
    def encoding_key(self) -> object:
        return self

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return resized_size(size, self.segmenter.manifest.windows)

    def encode(self, pixels: NDArray[np.uint8]) -> Segmentation:
        return self.segmenter.segment(pixels, self.classes, **self.options)

    def label(self, encoded: Segmentation, score_filter: ScoreFilter | None) -> Segmentation:
        return encoded

    def with_classes(self, classes: ClassEmbeddings | ClassNames, options: SegmentOptions) -> _FrameStages:
        if not isinstance(classes, ClassEmbeddings):
            raise OptionError(
                f"classes are {type(classes).__name__}, expected ClassEmbeddings: the fused graph encodes no words; "
                "Segmenter.encode_classes makes them, and ClassEmbeddings.load reads a file of 't2d classes'"
            )
        self.segmenter._checked(classes, options)
        return _FrameStages(self.segmenter, classes, options)
