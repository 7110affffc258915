"""Lists of classes: the phrases of each, negatives, and thresholds, all checked here."""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from t2d_runtime.checks import checked_number
from t2d_runtime.errors import ClassNamesError, OptionError
from t2d_runtime.words.text import check_class_names, clean_text, listed

NEGATIVE = -1
"""Class index of a negative: a phrase that competes, and whose pixels become background."""

ClassNames = Iterable[str] | Mapping[str, str | Iterable[str]]
"""Class names that are their own phrases, or a mapping from names to one phrase or several."""


@dataclass(frozen=True)
class ClassList:
    """Classes with their phrases, negatives and thresholds, from `checked_classes` or a reader of class files."""

    phrases: Mapping[str, tuple[str, ...]]
    """Class name -> its phrases, one or more. A class's score is the maximum over them."""
    negatives: tuple[str, ...] = ()
    """Phrases that compete and become label 0, background."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Class name -> the score from 0 to 1 that it must exceed to win over background, for classes with their own."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in order."""
        return tuple(self.phrases)

    @property
    def all_phrases(self) -> tuple[str, ...]:
        """Phrases of all classes, class after class, then the negatives."""
        return (*(phrase for group in self.phrases.values() for phrase in group), *self.negatives)

    @property
    def class_indices(self) -> tuple[int, ...]:
        """Class index of each of `all_phrases`, or NEGATIVE."""
        of_classes = (index for index, group in enumerate(self.phrases.values()) for _ in group)
        return (*of_classes, *(NEGATIVE for _ in self.negatives))


def checked_classes(
    names: ClassNames, negatives: Iterable[str] = (), thresholds: Mapping[str, float] | None = None
) -> ClassList:
    """A ClassList of the classes as given, after checks.

    Raises ClassNamesError (a set, no class, a name or phrase that is blank or too long, a phrase in two classes, a
    negative that is also a phrase) and OptionError (a threshold of no class, or outside 0 to 1).
    """
    if isinstance(names, Set) and not isinstance(names, KeysView):
        raise ClassNamesError("expected a list of class names, got a set, whose order changes from run to run; sort it")
    if isinstance(names, Mapping):
        phrases = dict(zip(check_class_names(names), map(_phrases, names, names.values()), strict=True))
    else:
        phrases = {name: (name,) for name in check_class_names(names)}
    classes = ClassList(phrases, _negatives(negatives), _thresholds(thresholds or {}, phrases))
    _check_distinct(classes)
    return classes


def _phrases(name: str, given: Any) -> tuple[str, ...]:
    try:
        return check_class_names([given] if isinstance(given, str) else given)
    except ClassNamesError as error:
        raise ClassNamesError(f"phrases of class {name!r}: {error}") from error


def _negatives(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        given = tuple(given)
    try:
        return check_class_names(given) if given != () else ()
    except ClassNamesError as error:
        raise ClassNamesError(f"negatives: {error}") from error


def _thresholds(given: Mapping[str, float], phrases: Mapping[str, object]) -> Mapping[str, float]:
    if not isinstance(given, Mapping):
        raise OptionError(f"thresholds are {given!r}, expected a mapping from class names to numbers from 0 to 1")
    for name, value in given.items():
        if name not in phrases:
            raise OptionError(
                f"a threshold is for {name!r:.80}, which is not a class; expected some of {listed(phrases)}"
            )
        checked_number(f"the threshold of {name!r}", value, 1)
    return {name: float(value) for name, value in given.items()}


def _check_distinct(classes: ClassList) -> None:
    """Raise ClassNamesError for a phrase in two classes, or a negative that is also a class's phrase."""
    owners: dict[str, str] = {}
    for name, group in classes.phrases.items():
        for phrase in group:
            owner = owners.setdefault(clean_text(phrase), name)
            if owner != name:
                raise ClassNamesError(
                    f"the phrase {phrase!r} is in two classes, {owner!r} and {name!r}; give it to one"
                )
    for phrase in classes.negatives:
        if clean_text(phrase) in owners:
            owner = owners[clean_text(phrase)]
            raise ClassNamesError(f"{phrase!r} is a negative and a phrase of class {owner!r}; choose one")
