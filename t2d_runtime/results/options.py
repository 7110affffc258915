"""What may be asked of a segmentation: options and words checked, the manifest's defaults where nothing is said."""

from __future__ import annotations

from typing import get_args

import numpy as np

from t2d_runtime.bundle.files import Bundle
from t2d_runtime.bundle.manifest import Defaults
from t2d_runtime.errors import ClassNamesError, OptionError, VocabularyError
from t2d_runtime.results.segmentation import BACKGROUND, MAX_LABELS, Cleaning, SegmentationSettings, WindowMode
from t2d_runtime.words.vocabulary import ClassEmbeddings

MOST_CLEANING = 1e30
"""Far beyond any use; scores times it are still float32 numbers."""


def checked_settings(
    defaults: Defaults,
    *,
    window: WindowMode,
    backend: str,
    precision: str,
    background: bool = False,
    cleaning: bool | Cleaning | None = None,
    threshold: float | None = None,
    cleaning_weight: float | None = None,
    refine: bool = False,
) -> SegmentationSettings:
    """The options of a segmentation, None being the manifest's default. Raises OptionError."""
    background = checked_flag("background", background)
    return SegmentationSettings(
        background=background,
        cleaning=_cleaning(cleaning, background=background),
        threshold=_number("threshold", threshold, defaults.threshold, most=1),
        cleaning_weight=_number("cleaning_weight", cleaning_weight, defaults.cleaning_weight, most=MOST_CLEANING),
        refine=checked_flag("refine", refine),
        window=checked_window(window),
        backend=backend,
        precision=precision,
    )


def checked_window(window: WindowMode) -> WindowMode:
    """One of WindowMode. Raises OptionError."""
    if window not in get_args(WindowMode):
        raise OptionError(f"window is {window!r}, expected one of {list(get_args(WindowMode))}")
    return window


def checked_flag(name: str, value: bool) -> bool:
    """True or False, NumPy's too. Raises OptionError."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def checked_num_threads(num_threads: int | None) -> int | None:
    """At least 1, or None. Raises OptionError."""
    if num_threads is None:
        return None
    given: object = num_threads
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
        raise OptionError(f"num_threads is {given!r}, expected a whole number from 1, or None for the engine's choice")
    return int(given)


def _cleaning(cleaning: bool | Cleaning | None, *, background: bool) -> Cleaning | None:
    """The method; None follows `background`, True is the official one, False none."""
    if cleaning is None:
        cleaning = background
    if isinstance(cleaning, bool | np.bool_):
        return "official" if cleaning else None
    if cleaning not in get_args(Cleaning):
        raise OptionError(f"cleaning is {cleaning!r}, expected None, True, False or one of {list(get_args(Cleaning))}")
    return cleaning


def _number(name: str, value: object, default: float, *, most: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, float | int | np.number) or not 0.0 <= value <= most:
        raise OptionError(f"{name} is {value!r}, expected a number from 0 to {most:g}")
    return float(value)


def check_classes(classes: ClassEmbeddings, bundle: Bundle, *, background: bool) -> None:
    """Raise ClassNamesError for what are no embeddings, too many labels, or a class called as label 0 is;
    VocabularyError for embeddings of another bundle."""
    if not isinstance(classes, ClassEmbeddings):
        raise ClassNamesError(
            f"classes are {type(classes).__name__}, expected ClassEmbeddings: those of encode_classes([...]), or of "
            "ClassEmbeddings.load"
        )
    if len(classes.names) + background > MAX_LABELS:
        raise ClassNamesError(f"{len(classes.names)} class names, expected at most {MAX_LABELS - background}")
    if background and BACKGROUND in {name.strip().lower() for name in classes.names}:
        raise ClassNamesError(
            f"a class is called {BACKGROUND!r}, as label 0 is where background=True; leave it out, or turn that off"
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
