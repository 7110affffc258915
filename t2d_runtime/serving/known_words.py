"""The words of a vocabulary file, for a server that encodes no others."""

from __future__ import annotations

from dataclasses import replace

from t2d_runtime.errors import ClassNamesError
from t2d_runtime.words.class_list import ClassList, checked_classes
from t2d_runtime.words.text import clean_text, shortened
from t2d_runtime.words.vocabulary import ClassEmbeddings

WORDS_SHOWN = 20
"""Most words that an error lists."""


class KnownWords:
    """Words of a vocabulary by their text, whatever its case. Safe to call from several threads.

    A class's name stands for all of its phrases, and each phrase for itself.
    """

    def __init__(self, vocabulary: ClassEmbeddings, most_phrases: int) -> None:
        self.vocabulary = vocabulary
        self._most_phrases = most_phrases
        self._rows = {phrase: row for row, phrase in enumerate(vocabulary.all_phrases)}
        self._phrases: dict[str, tuple[str, ...]] = {clean_text(phrase): (phrase,) for phrase in vocabulary.all_phrases}
        self._classes = {clean_text(name): name for name in vocabulary.names}
        of_classes: dict[int, list[str]] = {}
        for phrase, index in zip(vocabulary.all_phrases, vocabulary.classes_of_rows.tolist(), strict=True):
            of_classes.setdefault(index, []).append(phrase)
        for index, word in enumerate(self._classes):
            self._phrases[word] = tuple(of_classes[index])

    @property
    def words(self) -> tuple[str, ...]:
        """All words: names of classes, then phrases that are none."""
        phrases = (phrase for phrase in self.vocabulary.all_phrases if clean_text(phrase) not in self._classes)
        return (*self.vocabulary.names, *phrases)

    def embeddings(self, classes: ClassList, *, background: bool = False) -> ClassEmbeddings:
        """The classes with the vocabulary's vectors; with `background` also with its thresholds, where none are given.

        Raises ClassNamesError for other words, too many phrases, and a phrase that two classes share.
        """
        self._check_known(classes)
        own = self._thresholds(classes) if background else {}
        found = checked_classes(
            {name: self._all_phrases(words) for name, words in classes.phrases.items()},
            self._all_phrases(classes.negatives),
            {**own, **classes.thresholds},
        )
        phrases = found.all_phrases
        if len(phrases) > self._most_phrases:
            raise ClassNamesError(f"these words have {len(phrases)} phrases, expected at most {self._most_phrases}")
        return replace(
            self.vocabulary,
            names=found.names,
            vectors=self.vocabulary.vectors[[self._rows[phrase] for phrase in phrases]],
            phrases=phrases,
            class_indices=found.class_indices,
            thresholds=found.thresholds,
        )

    def sample(self) -> ClassEmbeddings:
        """One class of one phrase."""
        vocabulary = self.vocabulary
        return ClassEmbeddings(("thing",), vocabulary.vectors[:1], vocabulary.digest)

    def _all_phrases(self, words: tuple[str, ...]) -> tuple[str, ...]:
        found = (phrase for word in words for phrase in self._phrases[clean_text(word)])
        return tuple(dict.fromkeys(found))

    def _thresholds(self, classes: ClassList) -> dict[str, float]:
        """Thresholds of the vocabulary for classes that are one of its own."""
        words = {name: clean_text(words[0]) for name, words in classes.phrases.items() if len(words) == 1}
        names = {name: self._classes[word] for name, word in words.items() if word in self._classes}
        thresholds = self.vocabulary.thresholds
        return {name: thresholds[own] for name, own in names.items() if own in thresholds}

    def _check_known(self, classes: ClassList) -> None:
        unknown = [word for word in classes.all_phrases if clean_text(word) not in self._phrases]
        if not unknown:
            return
        words = self.words
        known = ", ".join(repr(shortened(word)) for word in words[:WORDS_SHOWN])
        more = f" and {len(words) - WORDS_SHOWN} more, which GET /info lists" if len(words) > WORDS_SHOWN else ""
        asked = ", ".join(repr(shortened(word)) for word in unknown[:WORDS_SHOWN])
        raise ClassNamesError(
            f"this server has a vocabulary in place of a text encoder, and does not know {asked}; expected some of "
            f"{known}{more}"
        )
