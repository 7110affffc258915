"""The bundle's tokenizer gives the ids of CLIP's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import open_clip
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from t2d_export.bundle.tokenizer import write_tokenizer
from t2d_runtime.words.text import END_TOKEN, Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"

DIFFERING_TOKENS = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|<start_of_text>|<end_of_text>", re.IGNORECASE)
"""open_clip does not know CLIP's two literal tokens and has two of its own."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path)
    return Tokenizer.from_file(path, context_length=77)


@pytest.fixture(scope="module")
def clip() -> open_clip.tokenizer.SimpleTokenizer:
    return open_clip.tokenizer.SimpleTokenizer()


def test_ids_equal_the_released_tokenizer(tokenizer: Tokenizer) -> None:
    cases = json.loads((GOLDEN / "tokens.json").read_text(encoding="utf-8"))["cases"]
    ids = tokenizer.encode([case["text"] for case in cases])
    for case, row in zip(cases, ids.tolist(), strict=True):
        # The golden ids end with the first end token, behind which nothing is read.
        assert row[: row.index(END_TOKEN) + 1] == case["ids"], case["text"]


@given(st.lists(st.text(max_size=60), min_size=50, max_size=50))
@settings(max_examples=200, deadline=None)
def test_ids_equal_open_clip_over_all_of_unicode(
    tokenizer: Tokenizer, clip: open_clip.tokenizer.SimpleTokenizer, texts: list[str]
) -> None:
    """10,000 strings."""
    assume(not any(DIFFERING_TOKENS.search(text) for text in texts))
    ids = tokenizer.encode(texts)
    expected = clip(texts).numpy()
    assert ids.tolist() == expected[:, : ids.shape[1]].tolist()
    assert not expected[:, ids.shape[1] :].any()


words = st.sampled_from(
    ["cat", "it's", "I'LL", "don’t", "3,000.5", "naïve", "猫", "🐈‍⬛", "&lt;b&gt;", "a_b", "K", "ſ", "İ"]
)


@given(st.lists(words, max_size=40).map(" ".join))
@settings(deadline=None)
def test_ids_equal_open_clip_on_words(
    tokenizer: Tokenizer, clip: open_clip.tokenizer.SimpleTokenizer, text: str
) -> None:
    ids = tokenizer.encode([text])
    assert ids.tolist() == clip([text]).numpy()[:, : ids.shape[1]].tolist()


def test_long_text_keeps_its_end_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["word " * 200])
    assert ids.shape == (1, 77)
    assert ids[0, -1] == END_TOKEN
