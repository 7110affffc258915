"""The origin of a result, besides its settings: enough to make it again, and to find results that are old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from t2d_runtime.words.vocabulary import ClassEmbeddings


@dataclass(frozen=True)
class Origin:
    """The model, the engine and the words of a result."""

    model_digest: str
    """Identity of the image encoder."""
    vocabulary_digest: str
    """Identity of the text encoder."""
    engine: str | None
    """Engine, version and device that encoded the image; None where the encoding does not tell."""
    prompts: str | tuple[str, ...] | None
    """Name of the prompt set, or the templates; None for a vocabulary, which does not tell."""
    phrases: Mapping[str, tuple[str, ...]] | None
    """Class name -> its phrases; None where each name is its own phrase."""
    negatives: tuple[str, ...]
    thresholds: Mapping[str, float]
    """Class name -> its own threshold, for classes that have one."""


def origin_of(
    model_digest: str, engine: str | None, classes: ClassEmbeddings, prompt_sets: Mapping[str, tuple[str, ...]]
) -> Origin:
    """The origin of a result from what encoded its image and from its words. Prompt sets give templates their name."""
    templates = classes.templates
    return Origin(
        model_digest=model_digest,
        vocabulary_digest=classes.digest,
        engine=engine,
        prompts=next((name for name, of_set in prompt_sets.items() if of_set == templates), templates),
        phrases=None if classes.phrases is None else {name: classes.phrases_of(name) for name in classes.names},
        negatives=classes.negatives,
        thresholds=dict(classes.thresholds),
    )
