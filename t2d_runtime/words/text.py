"""Class names and prompts to token ids and embeddings."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import BundleError, ClassNamesError, OptionError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as BytePairEncoder

logger = logging.getLogger(__name__)

START_TOKEN, END_TOKEN = 49406, 49407
"""Ids of `<|startoftext|>` and `<|endoftext|>` in CLIP's vocabulary."""

WORD_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""Pattern of a word in CLIP's tokenizer (simple_tokenizer.py), for the `regex` package, ignoring case."""

MAX_BATCH_TOKENS = 4096
"""Most tokens encoded at a time: enough to keep the matrix units busy, few enough to fit the caches."""

MAX_NAME_LENGTH = 1000
"""Most characters of a class name: far more than the 75 tokens that are read, and still fast to tokenize."""

NAMES_SHOWN = 20
"""Most names that a message lists."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, which no text in UTF-8 can hold. JSON with "\\ud800" alone gives one."""

_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u2060\u202a-\u202e\u2066-\u2069]|^[\u200c\u200d]+|[\u200c\u200d]+$")
"""Signs without a shape, as come along where words are copied from web pages. Joiners belong to some words, inside."""


class Tokenizer:
    """CLIP's byte-pair encoding, read from a bundle's tokenizer.json."""

    def __init__(self, encoder: BytePairEncoder, context_length: int) -> None:
        import regex

        self._encoder = encoder
        self._pattern = regex.compile(WORD_PATTERN, regex.IGNORECASE)
        self.context_length = context_length

    @classmethod
    def from_file(cls, path: str | Path, context_length: int) -> Tokenizer:
        """Read tokenizer.json. Raises BundleError where it is not one."""
        from tokenizers import Tokenizer as BytePairEncoder

        try:
            encoder = BytePairEncoder.from_file(str(path))
        except Exception as error:  # the library raises no narrower error
            raise BundleError(f"{path} is not a tokenizer ({error}); export the bundle again") from error
        return cls(encoder, context_length)

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids (n,L) from start to end token, padded with zeros to the longest text.

        A text longer than the context is cut before its end token, with a warning in the log.
        """
        words = [self._pattern.findall(clean_text(text)) for text in texts]
        encodings = self._encoder.encode_batch_fast(words, is_pretokenized=True, add_special_tokens=False)
        most = self.context_length - 2
        cut = [text for text, encoding in zip(texts, encodings, strict=True) if len(encoding.ids) > most]
        if cut:
            others = f", and {len(cut) - 1} other texts" if len(cut) > 1 else ""
            logger.warning("only the first %d tokens are read of %r%s", most, shortened(cut[0]), others)
        rows = [[START_TOKEN, *encoding.ids[:most], END_TOKEN] for encoding in encodings]
        ids = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return ids


def shortened(text: str, length: int = 60) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= length else f"{text[:length]}..."


def listed(names: Iterable[str]) -> str:
    """Names separated by commas, for messages: at most NAMES_SHOWN."""
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(shortened(name) for name in names[:NAMES_SHOWN]) + more


def clean_text(text: str) -> str:
    """CLIP's cleaning of text (simple_tokenizer.py): broken Unicode, HTML entities, white space and case."""
    if not (text.isascii() and text.isprintable() and "&" not in text):  # ftfy and HTML change nothing else
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def check_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, unchanged, after checks.

    Raises ClassNamesError where there is none, one is longer than MAX_NAME_LENGTH or holds signs that are not seen, or
    CLIP's cleaning makes one empty or two equal.
    """
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise ClassNamesError(f"expected a list of class names, got {names!r}; put it in a list")
    first: dict[str, str] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise ClassNamesError(f"class name {index} is {name!r}, expected text")
        if len(name) > MAX_NAME_LENGTH:
            raise ClassNamesError(
                f"class name {index}, {name[:40]!r}..., has {len(name)} characters, expected at most {MAX_NAME_LENGTH}"
            )
        if _SURROGATE.search(name):
            raise ClassNamesError(f"class name {index} is {name!r}, with half of a character; write the whole one")
        key = clean_text(name)
        if not key:
            raise ClassNamesError(f"class name {index} is {name!r}, a blank name; expected a word")
        if (unseen := _UNSEEN.search(key)) is not None:
            raise ClassNamesError(
                f"class name {index} is {name!r}, with a sign that is not seen (U+{ord(unseen[0][0]):04X}) but would "
                "be read; leave it out"
            )
        if key in first:
            raise ClassNamesError(f"class names {first[key]!r} and {name!r} are the same; give each one once")
        first[key] = str(name)  # for names from a NumPy array too
    if not first:
        raise ClassNamesError("expected at least one class name, got none")
    return tuple(first.values())


def check_templates(templates: Iterable[str]) -> tuple[str, ...]:
    """The prompt templates, unchanged, after checks. Raises OptionError for none, or one without "{}"."""
    if isinstance(templates, str | bytes) or not isinstance(templates, Iterable):
        raise OptionError(f"expected a list of one or more prompt templates, got {templates!r}")
    checked = tuple(templates)
    if not checked:
        raise OptionError("expected a list of one or more prompt templates, got none")
    for template in checked:
        if not isinstance(template, str) or "{}" not in template:
            raise OptionError(f"the prompt template {template!r} has no place for the name; write it as {{}}")
        if _SURROGATE.search(template):
            raise OptionError(f"the prompt template {template!r} has half of a character; write the whole one")
    return checked


def build_prompts(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """The prompts of each name, one for each template. Raises as `check_templates`."""
    checked = check_templates(templates)
    return [[template.replace("{}", name) for template in checked] for name in names]


def token_batches(
    input_ids: NDArray[np.int64], max_tokens: int = MAX_BATCH_TOKENS
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """Batches of classes of similar length: their indices (n,) and ids (n,T,L), cut to the longest of the batch.

    `input_ids` (N,T,L) is padded with zeros after the end token. The text encoder's mask is causal, so a cut after the
    end token changes nothing. A batch has at most `max_tokens` tokens, or one class.
    """
    prompts, length = input_ids.shape[1:]
    behind_end = np.argmax(input_ids[:, :, ::-1] == END_TOKEN, axis=2)
    lengths = length - behind_end.min(axis=1)
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * prompts * lengths[order[stop]] <= max_tokens:
            stop += 1
        indices = order[start:stop]
        yield indices, input_ids[indices, :, : lengths[indices[-1]]]
        start = stop


def encode_class_names(
    names: Sequence[str],
    templates: Sequence[str],
    tokenizer: Tokenizer,
    run: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embeddings (N,D) of the names, in their order.

    `run` is the text encoder: ids (n,T,L) -> L2-normalised embeddings (n,D), after the mean over T prompts.
    `progress` is called with the number of names done and their total. Raises as `check_class_names` and
    `build_prompts`.
    """
    names = check_class_names(names)
    prompts = build_prompts(names, templates)
    flat = tokenizer.encode([prompt for of_name in prompts for prompt in of_name])
    input_ids = flat.reshape(len(names), len(templates), -1)
    done, parts, order = 0, [], []
    for indices, ids in token_batches(input_ids):
        parts.append(run(ids))
        order.append(indices)
        done += len(indices)
        if progress is not None:
            progress(done, len(names))
    vectors = np.concatenate(parts).astype(np.float32, copy=False)
    result = np.empty_like(vectors)
    result[np.concatenate(order)] = vectors
    return result
