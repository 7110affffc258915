"""Class names, prompts and batches of tokens."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as BytePairEncoder

from t2d_runtime.errors import BundleError, ClassNamesError, OptionError
from t2d_runtime.words.text import (
    END_TOKEN,
    START_TOKEN,
    Tokenizer,
    build_prompts,
    check_class_names,
    clean_text,
    encode_class_names,
    token_batches,
)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer that knows bytes alone: id 0 to 255 inside a word, 256 to 511 at its end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    vocabulary |= {"<|startoftext|>": START_TOKEN, "<|endoftext|>": END_TOKEN}
    encoder = BytePairEncoder(models.BPE(vocab=vocabulary, merges=[], end_of_word_suffix="</w>"))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.add_special_tokens([AddedToken(token) for token in ("<|startoftext|>", "<|endoftext|>")])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(encoder.to_str(), encoding="utf-8")
    return Tokenizer.from_file(path, context_length=12)


# Tokens


def test_tokens_are_padded_to_the_longest(letters: Tokenizer) -> None:
    ids = letters.encode(["ab c", "", "!"])
    assert ids.dtype == np.int64
    assert ids.shape == (3, 5)
    assert ids[0].tolist() == [START_TOKEN, *ids[0, 1:4], END_TOKEN]
    assert ids[1].tolist() == [START_TOKEN, END_TOKEN, 0, 0, 0]
    assert ids[2].tolist() == [START_TOKEN, 256, END_TOKEN, 0, 0]


def test_long_text_is_cut_so_that_the_end_token_stays_last(
    letters: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    ids = letters.encode(["abcdefghij", "abcdefghijk", "abcdefghijklmnop"])
    assert caplog.messages == ["only the first 10 tokens are read of 'abcdefghijk', and 1 other texts"]
    assert ids.shape == (3, 12)
    assert ids[:, 0].tolist() == [START_TOKEN] * 3
    assert ids[:, -1].tolist() == [END_TOKEN] * 3
    np.testing.assert_array_equal(ids[1, :10], ids[2, :10])
    assert ids[0, 10] == ids[2, 10] + 256, "the j ends a word in the first text alone"


def test_literal_special_tokens_are_these_tokens(letters: Tokenizer) -> None:
    assert letters.encode(["<|startoftext|> <|ENDOFTEXT|>"]).tolist() == [
        [START_TOKEN, START_TOKEN, END_TOKEN, END_TOKEN]
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Two \t Dogs\n", "two dogs"),
        ("cat &amp;amp; dog", "cat & dog"),
        ("schÃ¶n", "schön"),
        ("“quoted”", '"quoted"'),
    ],
)
def test_text_is_cleaned_as_by_clip(text: str, expected: str) -> None:
    assert clean_text(text) == expected


@settings(max_examples=300)
@given(st.one_of(st.text(), st.text(st.characters(max_codepoint=127)), st.text("aB &;#<>\\\"'`~{}|\t\x7f\x1b[0m")))
def test_plain_text_needs_neither_ftfy_nor_html(text: str) -> None:
    """Of plain ASCII they leave everything as it is, so they are left out there."""
    fixed = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert clean_text(text) == " ".join(fixed.split()).lower()


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a tokenizer .*; export the bundle again"):
        Tokenizer.from_file(tmp_path / "tokenizer.json", 77)


# Names and prompts


def test_names_are_used_as_they_are() -> None:
    assert check_class_names(["bed ", "Traffic Light", "c"]) == ("bed ", "Traffic Light", "c")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "expected at least one class name, got none"),
        (["cat", "  \t"], r"class name 1 is '  \\t', a blank name; expected a word"),
        (["cat", "&#160;"], r"class name 1 is '&#160;', a blank name; expected a word"),
        (["caf\u00e9", "cafe\u0301"], "class names 'caf\u00e9' and 'cafe\u0301' are the same; give each one once"),
        (["cats & dogs", "cats &amp; dogs"], "class names 'cats & dogs' and 'cats &amp; dogs' are the same"),
        (["sky", "\ufeffsky"], r"class names 'sky' and '\\ufeffsky' are the same"),
        (["cat", "dog", "cat"], "class names 'cat' and 'cat' are the same"),
        (["traffic light", "Traffic  light "], "class names 'traffic light' and 'Traffic  light ' are the same"),
        (["cat", 3], "class name 1 is 3, expected text"),
        ("cat,dog", "expected a list of class names, got 'cat,dog'"),
        (3, "expected a list of class names, got 3"),
        (iter(()), "expected at least one class name, got none"),
        (["cat", "a" * 1001], r"class name 1, 'a{40}'\.\.\., has 1001 characters, expected at most 1000"),
    ],
)
def test_unusable_names_are_refused(names: Any, message: str) -> None:
    with pytest.raises(ClassNamesError, match=message):
        check_class_names(names)


def test_prompts_are_the_templates_of_each_name() -> None:
    assert build_prompts(["cat", "a{}b"], ["a {}.", "{}"]) == [["a cat.", "cat"], ["a a{}b.", "a{}b"]]


@pytest.mark.parametrize("templates", [["a {}", "a photo"], [], "a {}", [3]])
def test_unusable_templates_are_refused(templates: Any) -> None:
    with pytest.raises(OptionError, match="template"):
        build_prompts(["cat"], templates)


# Batches


@st.composite
def padded_ids(draw: st.DrawFn) -> NDArray[np.int64]:
    classes, prompts = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(2, 10), min_size=classes * prompts, max_size=classes * prompts))
    ids = np.zeros((classes * prompts, max(lengths)), np.int64)
    for index, (row, length) in enumerate(zip(ids, lengths, strict=True)):
        row[: length - 1] = index
        row[length - 1] = END_TOKEN
    return ids.reshape(classes, prompts, -1)


@given(padded_ids(), st.integers(1, 200))
def test_batches_hold_every_class_once_whole_and_bounded(input_ids: NDArray[np.int64], limit: int) -> None:
    seen, longest = [], 0
    for indices, ids in token_batches(input_ids, limit):
        assert ids.shape[:2] == (len(indices), input_ids.shape[1])
        assert ids.size <= limit or len(indices) == 1
        assert not input_ids[indices, :, ids.shape[2] :].any(), "what is cut off is padding"
        np.testing.assert_array_equal(ids, input_ids[indices, :, : ids.shape[2]])
        assert ids[:, :, -1].any(), "cut to the longest"
        assert ids.shape[2] >= longest, "sorted by length"
        longest = ids.shape[2]
        seen.extend(indices.tolist())
    assert sorted(seen) == list(range(len(input_ids)))


def checksum(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """A text encoder that tells texts apart and does not see padding."""
    position = np.arange(1, ids.shape[2] + 1)
    per_prompt = np.where(ids > 0, ids % 997 * position, 0).sum(axis=2)
    return np.stack([per_prompt.sum(axis=1), per_prompt[:, 0]], axis=1).astype(np.float32)


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=1, max_size=20, unique=True))
@settings(deadline=None)
def test_encoding_keeps_the_order_of_names(letters: Tokenizer, names: list[str]) -> None:
    templates = ["{}", "x {}"]
    vectors = encode_class_names(names, templates, letters, checksum)
    assert vectors.dtype == np.float32
    for name, vector in zip(names, vectors, strict=True):
        np.testing.assert_array_equal(vector, encode_class_names([name], templates, letters, checksum)[0])


def test_progress_is_told(letters: Tokenizer) -> None:
    names = [f"{'a' * (1 + i % 9)} {i}" for i in range(500)]
    seen: list[tuple[int, int]] = []
    encode_class_names(names, ["{}"], letters, checksum, lambda done, total: seen.append((done, total)))
    assert len(seen) > 1
    assert [total for _, total in seen] == [500] * len(seen)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (500, 500)
