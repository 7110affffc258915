"""What may be asked of a segmentation: options and words checked, the manifest's defaults where nothing is said."""

from __future__ import annotations

from typing import get_args

from t2d_runtime.bundle import Bundle
from t2d_runtime.errors import ClassNamesError, OptionError, VocabularyError
from t2d_runtime.manifest import Defaults
from t2d_runtime.segmentation import MAX_LABELS, Cleaning
from t2d_runtime.vocabulary import ClassEmbeddings

MOST_CLEANING = 1e30
"""Far beyond any use; scores times it are still float32 numbers."""


def checked_cleaning(cleaning: bool | Cleaning | None, *, background: bool) -> Cleaning | None:
    """The method; None follows `background`, True is the official one, False none. Raises OptionError."""
    if cleaning is None:
        cleaning = background
    if isinstance(cleaning, bool):
        return "official" if cleaning else None
    if cleaning not in get_args(Cleaning):
        raise OptionError(f"cleaning is {cleaning!r}, expected None, False or one of {list(get_args(Cleaning))}")
    return cleaning


def checked_threshold(threshold: float | None, defaults: Defaults) -> float:
    """A threshold, 0 to 1. Raises OptionError."""
    if threshold is None:
        return defaults.threshold
    if not 0.0 <= threshold <= 1.0:
        raise OptionError(f"threshold is {threshold}, expected 0 to 1")
    return threshold


def checked_cleaning_weight(weight: float | None, defaults: Defaults) -> float:
    """Lambda, from 0 to MOST_CLEANING. Raises OptionError."""
    if weight is None:
        return defaults.cleaning_weight
    if not 0.0 <= weight <= MOST_CLEANING:
        raise OptionError(f"cleaning_weight is {weight}, expected 0 to {MOST_CLEANING:g}")
    return weight


def check_num_threads(num_threads: int | None) -> None:
    """Raise OptionError for fewer threads than one."""
    if num_threads is not None and num_threads < 1:
        raise OptionError(f"num_threads is {num_threads}, expected at least 1, or None for the engine's choice")


def check_classes(classes: ClassEmbeddings, bundle: Bundle, *, background: bool) -> None:
    """Raise ClassNamesError for too many labels, VocabularyError for embeddings of another bundle."""
    if len(classes.names) + background > MAX_LABELS:
        raise ClassNamesError(f"{len(classes.names)} class names, expected at most {MAX_LABELS - background}")
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
