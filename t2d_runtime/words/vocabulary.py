"""Named classes and the embeddings of their phrases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import ClassNamesError, OptionError, VocabularyError
from t2d_runtime.words.class_list import NEGATIVE, ClassList, checked_classes
from t2d_runtime.words.text import check_class_names

LENGTH_TOLERANCE = 0.02
"""Largest distance of an embedding's length from 1: twice the error of bfloat16's eight bits."""


@dataclass(frozen=True, eq=False, repr=False)
class ClassEmbeddings:
    """Named classes and the embeddings of their phrases. It works as a collection of classes by name."""

    names: tuple[str, ...]
    """N classes."""
    vectors: NDArray[np.float32]
    """(P,D), L2-normalised, read-only: a row for each phrase. A class has one row unless `phrases` gives more."""
    digest: str
    """Identity of the text encoder and the tokenizer that made them."""
    phrases: tuple[str, ...] | None = None
    """P phrases; None where each name is its own phrase."""
    class_indices: tuple[int, ...] | None = None
    """Class index of each phrase in rising order, then -1 for the negatives; None: one phrase for each name."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Name -> the score from 0 to 1 that the class must exceed to win over background; others take the call's."""
    templates: tuple[str, ...] | None = None
    """Templates that the phrases were encoded with; None where they are not known, as of a file."""
    all_phrases: tuple[str, ...] = field(init=False)
    """P phrases, also where each name is its own phrase."""
    classes_of_rows: NDArray[np.intp] = field(init=False)
    """(P,) the class of each row of `vectors`, -1 for negatives; read-only."""
    _rows: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        """Check the fields. Raises ClassNamesError, OptionError, and VocabularyError for other than P unit vectors."""
        classes = self._checked_list()
        count = len(classes.all_phrases)
        try:
            vectors = np.array(self.vectors, np.float32)
        except (TypeError, ValueError) as error:
            raise VocabularyError(f"class embeddings are not numbers: {error}") from error
        if vectors.ndim != 2 or len(vectors) != count:
            what = "class names" if count == len(classes.names) else "phrases"
            raise VocabularyError(f"{count} {what} and vectors of shape {vectors.shape}, expected ({count}, D)")
        wrong = wrong_lengths(vectors)
        if wrong is not None:
            raise VocabularyError(f"class embeddings have {wrong}")
        vectors.flags.writeable = False
        plain = classes.all_phrases == classes.names
        for name, value in (
            ("names", classes.names),
            ("vectors", vectors),
            ("phrases", None if plain else classes.all_phrases),
            ("class_indices", None if plain else classes.class_indices),
            ("thresholds", MappingProxyType(dict(classes.thresholds))),
            ("all_phrases", classes.all_phrases),
            ("classes_of_rows", np.array(classes.class_indices, np.intp)),
        ):
            object.__setattr__(self, name, value)
        self.classes_of_rows.flags.writeable = False
        rows: dict[str, list[int]] = {name: [] for name in self.names}
        for row, index in enumerate(classes.class_indices):
            if index != NEGATIVE:
                rows[self.names[index]].append(row)
        object.__setattr__(self, "_rows", rows)

    def _checked_list(self) -> ClassList:
        """The ClassList of the fields. Raises ClassNamesError and OptionError."""
        if self.phrases is None or self.class_indices is None:
            return checked_classes(self.names, (), self.thresholds)
        names, indices = tuple(self.names), tuple(map(int, self.class_indices))
        positive = [index for index in indices if index != NEGATIVE]
        if (
            len(indices) != len(self.phrases)
            or list(indices) != sorted(positive) + [NEGATIVE] * (len(indices) - len(positive))
            or set(positive) != set(range(len(names)))
        ):
            raise VocabularyError(
                f"{len(names)} classes and {len(self.phrases)} phrases with class indices {indices[:8]}...; expected "
                "an index for each phrase, rising, of every class, then -1 for negatives"
            )
        groups: dict[str, list[str]] = {name: [] for name in check_class_names(names)}
        for phrase, index in zip(self.phrases, indices, strict=True):
            if index != NEGATIVE:
                groups[names[index]].append(phrase)
        return checked_classes(groups, self.phrases[len(positive) :], self.thresholds)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Embeddings (n,D) of the n phrases of a class. Raises ClassNamesError for an unknown name."""
        if name not in self._rows:
            raise ClassNamesError(f"not in the vocabulary: {name!r}; it has {len(self.names)} names")
        return self.vectors[self._rows[name]]

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:5]) + (", ..." if len(self) > 5 else "")
        extras = [f"{len(self.phrases)} phrases"] if self.phrases else []
        extras += [f"{len(self.negatives)} negatives"] if self.negatives else []
        extras += [f"{len(self.thresholds)} thresholds"] if self.thresholds else []
        return f"ClassEmbeddings({'; '.join([f'{len(self)} classes: {shown}', *extras])}; {self.vectors.shape[1]} wide)"

    def phrases_of(self, name: str) -> tuple[str, ...]:
        """The phrases of a class. Raises KeyError for an unknown name."""
        return tuple(self.all_phrases[row] for row in self._rows[name])

    @property
    def negatives(self) -> tuple[str, ...]:
        """Phrases that compete and become background."""
        return self.all_phrases[len(self.all_phrases) - self._count_negatives() :]

    def _count_negatives(self) -> int:
        return int((self.classes_of_rows == NEGATIVE).sum())

    def __getstate__(self) -> dict[str, Any]:
        """The fields; Python pickles no read-only mapping."""
        return {**self.__dict__, "thresholds": dict(self.thresholds)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickled arrays and thresholds are read-only too."""
        self.__dict__.update(state, thresholds=MappingProxyType(state["thresholds"]))
        for array in (self.vectors, self.classes_of_rows):
            array.flags.writeable = False

    def subset(self, names: Iterable[str]) -> ClassEmbeddings:
        """The named classes, in the given order, with their phrases and thresholds, and all negatives.

        Raises ClassNamesError for an unknown name.
        """
        wanted = check_class_names(names)
        missing = [name for name in wanted if name not in self._rows]
        if missing:
            raise ClassNamesError(
                f"not in the vocabulary: {', '.join(map(repr, missing))}; it has {len(self.names)} names"
            )
        rows = [(row, index) for index, name in enumerate(wanted) for row in self._rows[name]]
        rows += [(int(row), NEGATIVE) for row in np.flatnonzero(self.classes_of_rows == NEGATIVE)]
        return replace(
            self,
            names=wanted,
            vectors=self.vectors[[row for row, _ in rows]],
            phrases=tuple(self.all_phrases[row] for row, _ in rows),
            class_indices=tuple(index for _, index in rows),
            thresholds={name: self.thresholds[name] for name in wanted if name in self.thresholds},
        )

    def merge(self, other: ClassEmbeddings) -> ClassEmbeddings:
        """These classes, then the other ones, and the negatives of both.

        Raises ClassNamesError (a name or phrase in both) and VocabularyError (another text encoder, or no vocabulary).
        """
        if not isinstance(other, ClassEmbeddings):
            raise VocabularyError(f"expected ClassEmbeddings to merge with, got {type(other).__name__}")
        if other.digest != self.digest:
            raise VocabularyError(
                f"the vocabularies were made with different text encoders (digests {self.digest[:12]}… and "
                f"{other.digest[:12]}…); make one of them again"
            )
        moved = np.where(other.classes_of_rows == NEGATIVE, NEGATIVE, other.classes_of_rows + len(self))
        indices = np.concatenate([self.classes_of_rows, moved])
        order = np.argsort(indices == NEGATIVE, kind="stable")  # the negatives of both last
        phrases = self.all_phrases + other.all_phrases
        return replace(
            self,
            names=self.names + other.names,
            vectors=np.concatenate([self.vectors, other.vectors])[order],
            phrases=tuple(phrases[row] for row in order),
            class_indices=tuple(indices[order].tolist()),
            thresholds={**self.thresholds, **other.thresholds},
            templates=self.templates if self.templates == other.templates else None,
        )

    def save(self, path: str | Path) -> None:
        """Write a vocabulary file, whole or not at all; the suffix, .npz or .safetensors, says which kind.

        Raises OptionError for another suffix, and OutputError.
        """
        from t2d_runtime.words.vocabulary_files import VocabularyContent, write_vocabulary

        content = VocabularyContent(
            names=list(self.names),
            vectors=self.vectors,
            digest=self.digest,
            phrases=list(self.phrases or ()),
            class_indices=list(self.class_indices or ()),
            thresholds=dict(self.thresholds),
        )
        write_vocabulary(Path(path), content)

    @classmethod
    def load(cls, path: str | Path) -> ClassEmbeddings:
        """Read a vocabulary file; the suffix, .npz or .safetensors, says which kind.

        Raises VocabularyError where it is not one, and OptionError for another suffix.
        """
        from t2d_runtime.words.vocabulary_files import read_vocabulary

        content = read_vocabulary(Path(path))
        try:
            return cls(
                tuple(content.names),
                content.vectors,
                content.digest,
                tuple(content.phrases) or None,
                tuple(content.class_indices) or None,
                content.thresholds,
            )
        except VocabularyError as error:
            raise VocabularyError(f"{path} is damaged: {error}; make it again") from error
        except (ClassNamesError, OptionError, TypeError, ValueError) as error:
            raise VocabularyError(f"{path} is not a vocabulary file ({error}); make it again") from error


def wrong_lengths(vectors: NDArray[np.float32]) -> str | None:
    """A description of the fault of embeddings (N,D) that are not unit vectors; None where they are."""
    lengths = np.linalg.norm(vectors, axis=1)
    if (np.abs(lengths - 1) <= LENGTH_TOLERANCE).all():  # false for values that are not finite
        return None
    return f"lengths from {lengths.min():.3g} to {lengths.max():.3g}, expected 1"
