"""Options of a segmentation: their types, their checks, and the settings made from them and the manifest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

import numpy as np

from t2d_runtime.bundle.files import Bundle
from t2d_runtime.bundle.manifest import MOST_DILATION, MOST_ITERATIONS, Defaults, PamrSettings
from t2d_runtime.checks import checked_flag, checked_number, is_whole
from t2d_runtime.errors import ClassNamesError, OptionError, VocabularyError
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.windows import WindowMode, checked_window
from t2d_runtime.results.label_map import BACKGROUND, MAX_LABELS
from t2d_runtime.words.text import listed
from t2d_runtime.words.vocabulary import ClassEmbeddings

Cleaning = Literal["official", "paper"]
"""Methods of background cleaning: that of the authors' released code, or that of the paper's Eq. 8-10."""

MOST_CLEANING = 1e30
"""Largest cleaning weight, far beyond any use. Scores times it are still finite float32 numbers."""


class MaskOptions(TypedDict, total=False):
    """Options of every way of segmenting. One that is left out, or None, has its default: where none is named here, the
    manifest's."""

    background: bool | None
    """Label 0 where no class exceeds `threshold`. Default: False."""
    cleaning: bool | Cleaning | None
    """Background cleaning: True or "official" as released, "paper" as in Eq. 8-10, False off.
    Default: the value of `background`."""
    threshold: float | None
    """Score from 0 to 1 that a class must exceed to win over background."""
    cleaning_weight: float | None
    """Lambda of the cleaning, from 0."""
    refine: bool | PamrSettings | None
    """PAMR with the published iterations and dilations, or with given ones. Default: False."""
    keep_scores: bool | None
    """Keep the scores (N,H,W) of all classes in the result. Default: False."""
    keep_confidence: bool | None
    """Keep the winning score of each pixel (H,W) in the result. Default: False."""


class SegmentOptions(MaskOptions, total=False):
    """The options of `Segmenter.segment`."""

    window: WindowMode | None
    """ "slide" (as published) or "whole" (the resized image as one window). Default: "slide", or the encoding's own."""


@dataclass(frozen=True)
class SegmentationSettings:
    """All settings that decide the labels, besides image and words."""

    background: bool
    cleaning: Cleaning | None
    threshold: float
    cleaning_weight: float
    refine: PamrSettings | None
    window: WindowMode
    backend: str
    precision: str


def resolve_options(
    options: MaskOptions, defaults: Defaults, *, window: WindowMode, backend: str, precision: str
) -> SegmentationSettings:
    """The settings made from options and defaults, for a window mode on an engine.

    Raises OptionError for an unknown name, a value outside its range, and an option that would have no effect.
    """
    unknown = set(options) - SegmentOptions.__optional_keys__
    if unknown:
        known = sorted(SegmentOptions.__optional_keys__)
        raise OptionError(f"unknown options {sorted(unknown)}, expected some of {known}")
    _flag(options, "keep_scores")
    _flag(options, "keep_confidence")
    background = _flag(options, "background")
    cleaning = _cleaning(options.get("cleaning"), background=background)
    threshold, weight = options.get("threshold"), options.get("cleaning_weight")
    settings = SegmentationSettings(
        background=background,
        cleaning=cleaning,
        threshold=_number("threshold", threshold, defaults.threshold, most=1),
        cleaning_weight=_number("cleaning_weight", weight, defaults.cleaning_weight, most=MOST_CLEANING),
        refine=_refine(options.get("refine"), defaults.pamr),
        window=checked_window(window),
        backend=backend,
        precision=precision,
    )
    if threshold is not None and not background:
        raise OptionError("threshold has no effect without background=True; add that, or leave the threshold out")
    if weight is not None and cleaning is None:
        raise OptionError("cleaning_weight has no effect without cleaning; turn that on, or leave the weight out")
    return settings


def encoded_settings(
    options: SegmentOptions, defaults: Defaults, encoding: ImageEncoding, model_digest: str
) -> SegmentationSettings:
    """The settings for an encoded image, which has its own window mode and engine.

    Raises the errors of `resolve_options`, and OptionError for an encoding of another image encoder than that of
    `model_digest`, and for a window mode.
    """
    window = options.get("window")
    if window is not None:
        checked_window(window)
    if encoding.model_digest != model_digest:
        raise OptionError(
            f"the image was encoded with another bundle (digest {encoding.model_digest[:12]}…, this bundle's is "
            f"{model_digest[:12]}…); encode it again with this one"
        )
    if window is not None:
        raise OptionError(
            f"window has no effect on an encoded image, which was encoded with {encoding.window_mode!r}; leave it "
            "out, or encode the image again"
        )
    return resolve_options(
        options, defaults, window=encoding.window_mode, backend=encoding.backend, precision=encoding.precision
    )


def _flag(options: MaskOptions, name: Literal["background", "keep_scores", "keep_confidence"]) -> bool:
    value = options.get(name)
    return False if value is None else checked_flag(name, value)


def _cleaning(cleaning: bool | Cleaning | None, *, background: bool) -> Cleaning | None:
    """The method of cleaning. None follows `background`, True is the official method, False is none."""
    if cleaning is None:
        cleaning = background
    if isinstance(cleaning, bool | np.bool_):
        return "official" if cleaning else None
    if not isinstance(cleaning, str) or cleaning not in get_args(Cleaning):
        raise OptionError(
            f"cleaning is {cleaning!r:.80}, expected None, True, False or one of {list(get_args(Cleaning))}"
        )
    return cleaning


def _refine(refine: bool | PamrSettings | None, default: PamrSettings) -> PamrSettings | None:
    """The iterations and dilations of PAMR; None where it is off."""
    if not isinstance(refine, PamrSettings):
        return default if refine is not None and checked_flag("refine", refine) else None
    if not is_whole(refine.iterations, 1) or refine.iterations > MOST_ITERATIONS:
        raise OptionError(
            f"refine has iterations {refine.iterations!r:.80}, expected 1 to {MOST_ITERATIONS} iterations"
        )
    given: object = refine.dilations
    dilations = tuple(given) if isinstance(given, Iterable) else ()
    if not dilations or not all(is_whole(dilation, 1) and dilation <= MOST_DILATION for dilation in dilations):
        raise OptionError(
            f"refine has dilations {given!r:.80}, expected one or more whole numbers from 1 to {MOST_DILATION} pixels, "
            "such as (1, 2, 4)"
        )
    return PamrSettings(tuple(map(int, dilations)), int(refine.iterations))


def _number(name: str, value: object, default: float, *, most: float) -> float:
    return default if value is None else checked_number(name, value, most)


def label_names(classes: ClassEmbeddings, settings: SegmentationSettings) -> tuple[str, ...]:
    """Label -> name: background first, where the settings ask for it or classes have negatives, then the classes."""
    return (BACKGROUND, *classes.names) if settings.background or classes.negatives else classes.names


def check_classes(classes: ClassEmbeddings, bundle: Bundle, *, background: bool) -> None:
    """Raise ClassNamesError for anything but embeddings, too many labels, or a class with the name of label 0;
    OptionError for thresholds without background; VocabularyError for embeddings of another bundle."""
    if not isinstance(classes, ClassEmbeddings):
        raise ClassNamesError(
            f"classes are {type(classes).__name__}, expected ClassEmbeddings: Segmenter.encode_classes makes them, and "
            "ClassEmbeddings.load reads a file of 't2d classes'"
        )
    if len(classes.vectors) + background > MAX_LABELS:
        what = "class names" if classes.phrases is None else "phrases"
        raise ClassNamesError(f"{len(classes.vectors)} {what}, expected at most {MAX_LABELS - background}")
    if classes.thresholds and not background:
        raise OptionError(
            f"the thresholds of {listed(map(repr, classes.thresholds))} have no effect without background=True; add "
            "that, or leave them out"
        )
    background = background or bool(classes.negatives)
    if background and BACKGROUND in {name.strip().lower() for name in classes.names}:
        raise ClassNamesError(
            f"a class is called {BACKGROUND!r}, the name of label 0 with background=True or negatives; leave it out"
        )
    width = bundle.manifest.model.embed_dim
    if classes.vectors.shape[1] != width:
        raise VocabularyError(
            f"the vocabulary's embeddings have width {classes.vectors.shape[1]}, this bundle's have {width}; "
            "make it again with 't2d classes' and this bundle"
        )
    if classes.digest != bundle.vocabulary_digest:
        raise VocabularyError(
            f"the vocabulary was made with another text encoder (digest {classes.digest[:12]}…, this bundle's "
            f"is {bundle.vocabulary_digest[:12]}…); make it again with 't2d classes' and this bundle"
        )
