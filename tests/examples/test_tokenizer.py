"""The tokenizer in JavaScript gives the tokens of Python's, and says where Python would repair a text."""

from __future__ import annotations

import html.entities
import json
import logging
import random
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ftfy
import pytest
import regex
from ftfy import fix_encoding
from ftfy.badness import MOJIBAKE_CATEGORIES
from ftfy.chardata import CHARMAP_ENCODINGS

from t2d_runtime.bundle.files import TOKENIZER
from t2d_runtime.words.text import END_TOKEN, Tokenizer, clean_text

SCRIPT = Path(__file__).with_name("tokenize.mjs")
GOLDEN = Path(__file__).parents[1] / "golden" / "tokens.json"

SPACES = " \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u3000\u200b\u180e\ufeff"
WORDS = (
    *(
        "cat",
        "it's",
        "I'LL",
        "don’t",
        "3,000.5",
        "naïve",
        "猫",
        "🐈‍⬛",
        "a_b",
        "K",
        "ſ",
        "'ſ",
        "İ",
        "ΣΑΣ",
        "Straße",
        "кот",
    ),
    *(
        "Україна",
        "été",
        "«été»",
        "“été”",
        "cœur",
        "ﬁne",
        "Ⅷ",
        "½",
        "１２３",
        "ｶﾞ",
        "e\u0301",
        "<|startoftext|>",
        "ŉ",
        "!!!",
    ),
    *("<|ſtartoftext|>", "<|endoftext|>", "—", "…", "<b>", "&amp;amp;", "&#x27;", "\x1b[31mred", "cafÃ©", "â€œ"),
)
NATURAL = (
    *(
        "cat",
        "naïve",
        "ΣΑΣ",
        "Straße",
        "кот",
        "Україна",
        "кішка",
        "été",
        "«été»",
        "à la carte",
        "bœuf",
        "Ærø",
        "mañana",
    ),
    *("日本の山", "한국어", "हिन्दी", "עברית", "عربي", "ไทย", "1½ cups", "20 °C", "m²", "€5", "¿qué?", "Łódź", "ČESKÁ"),
    *("Việt Nam", "İstanbul", "SÃO PAULO", "ÉCOLE", "Coca‑Cola®", "🐈‍⬛ cat", "❤️"),
)


class Read(NamedTuple):
    """A text as JavaScript read it."""

    read: str
    repaired: bool
    certain: bool
    ids: list[int]
    cut: bool


@pytest.fixture(scope="module")
def tokenizer(fused_bundle: Path) -> Tokenizer:
    return Tokenizer.from_file(fused_bundle / TOKENIZER, context_length=77)


@pytest.fixture(scope="module")
def read(node: str, fused_bundle: Path) -> Callable[[list[str]], list[Read]]:
    def read_in_node(texts: list[str]) -> list[Read]:
        return [Read(**found) for found in run(node, fused_bundle / TOKENIZER, texts=texts)]

    return read_in_node


def run(node: str, *arguments: Path, texts: object = None) -> Any:
    done = subprocess.run(
        [node, SCRIPT, *arguments], input=json.dumps(texts), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def no_word_of_long_texts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode([text])[0].tolist()
    return ids


def test_golden_tokens(read: Callable[[list[str]], list[Read]]) -> None:
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
    for case, found in zip(cases, read([case["text"] for case in cases]), strict=True):
        assert found.ids[: found.ids.index(END_TOKEN) + 1] == case["ids"], case["text"]
        assert found.certain


def known_characters(node: str) -> list[str]:
    """Characters that this Python and this Node.js know alike, of the first two planes; Unicode grows every year."""
    kinds = [
        "L" if regex.match(r"\p{L}", text) else "N" if regex.match(r"\p{N}", text) else "-"
        for text in map(chr, range(0x20000))
    ]
    return [
        text
        for text, kind, fact in zip(map(chr, range(0x20000)), kinds, run(node), strict=True)
        if fact == kind + text.lower() + unicodedata.normalize("NFC", text) + unicodedata.normalize("NFKC", text)
    ]


def drawn_texts(characters: list[str], seed: int, count: int) -> list[str]:
    """Texts of all of Unicode, of white space, of references, of what wrongly decoded text is made of, and of words."""
    draw = random.Random(seed)
    names = list(html.entities.html5)
    suspects = [text for text in characters if regex.match(f"[{''.join(MOJIBAKE_CATEGORIES.values())}]", text)]

    def reference() -> str:
        name = f"&{draw.choice(names)}"
        number = draw.choice([draw.randrange(300), draw.randrange(0x20000, 0x120000)])
        return draw.choice([name, name.rstrip(";"), name.upper(), f"&#{number};", f"&#x{number:x}", f"&#{number}"])

    pools: list[Callable[[], str]] = [
        lambda: draw.choice(characters),
        lambda: draw.choice(characters[:0x600]),
        lambda: draw.choice([*suspects, "a", "Z", " "]),
        lambda: chr(draw.randrange(128)),
        lambda: draw.choice([reference(), draw.choice(WORDS), " "]),
        lambda: draw.choice([draw.choice(WORDS), draw.choice(SPACES)]),
        lambda: draw.choice(WORDS) + " ",
    ]
    return ["".join(pool() for _ in range(draw.randrange(40))) for pool in draw.choices(pools, k=count)]


def test_tokens_are_those_of_python_wherever_ftfy_changes_nothing(
    node: str, read: Callable[[list[str]], list[Read]], tokenizer: Tokenizer
) -> None:
    characters = known_characters(node)
    assert len(characters) > 0x1F000
    texts = drawn_texts(characters, seed=17, count=4000)
    equal = certain = unchanged = 0
    for text, found in zip(texts, read(texts), strict=True):
        same, fixed = found.ids == ids_of(tokenizer, text), ftfy.fix_text(text)
        equal, certain, unchanged = equal + same, certain + found.certain, unchanged + (fixed == text)
        assert same or (fixed != text and not found.certain), ascii(text)
        if found.certain:
            assert found.read == clean_text(text), ascii(text)
            assert found.repaired == (found.read != " ".join(text.split()).lower()), ascii(text)
    assert min(equal, certain, unchanged) > 1000
    assert max(equal, certain, unchanged) < 4000


def test_every_character_is_read(node: str, read: Callable[[list[str]], list[Read]]) -> None:
    characters = [text for text in known_characters(node) if not "\u3400" < text < "\uf900" and text < "\U00010000"]
    texts = [f"{before}{text}{after}" for text in characters for before, after in (("a ", " b"), ("a", "b"))]
    readings = read(texts)
    for text, found in zip(texts, readings, strict=True):
        if found.certain:
            assert found.read == clean_text(text), ascii(text)
    assert sum(found.certain for found in readings) > 0.99 * len(texts)


def test_wrongly_decoded_text_is_uncertain(read: Callable[[list[str]], list[Read]]) -> None:
    characters = [*map(chr, range(0xA0, 0x800)), *map(chr, range(0x2000, 0x2100)), "猫", "한", "😀"]
    texts = []
    for encoding in CHARMAP_ENCODINGS:
        for text in characters:
            try:
                wrong = text.encode().decode(encoding)
            except UnicodeDecodeError:
                continue
            texts += [wrong, f"caf{wrong} {wrong}tre", f"it{wrong}s a {wrong}cat{wrong}"]
    repaired = 0
    for text, found in zip(texts, read(texts), strict=True):
        if fix_encoding(text) != text:
            repaired += 1
            assert not found.certain, ascii(text)
    assert repaired > 10_000


def test_every_named_reference_is_read(read: Callable[[list[str]], list[Read]]) -> None:
    """After a "<", ftfy leaves them to HTML's rules; without one, it reads those that end with a semicolon."""
    texts = [start + f"&{name}x" for name in html.entities.html5 for start in ("< ", "")]
    readings = read(texts)
    for text, found in zip(texts, readings, strict=True):
        if found.certain:
            assert found.read == clean_text(text), ascii(text)
    assert sum(found.certain for found in readings) > 0.9 * len(texts)


def test_words_of_many_languages_are_certain(read: Callable[[list[str]], list[Read]], tokenizer: Tokenizer) -> None:
    for word, found in zip(NATURAL, read(NATURAL), strict=True):
        assert (found.certain, found.repaired) == (True, False), word
        assert found.read == word.lower()
        assert found.ids == ids_of(tokenizer, word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  CAT\n", Read("the cat", False, True, [], False)),
        ("don’t", Read("don't", True, True, [], False)),
        ("ﬁne ｃａｔ", Read("fine cat", True, True, [], False)),
        ("fish &amp; chips", Read("fish & chips", True, True, [], False)),
        ("cafe\u0301", Read("café", True, True, [], False)),
        ("cat\ud800", Read("cat\ufffd", True, False, [], False)),
        ("cafÃ©", Read("cafã©", False, False, [], False)),  # Python reads "café"
        ("word " * 80, Read("word " * 79 + "word", False, True, [], True)),
        ("", Read("", False, True, [], False)),
    ],
)
def test_it_says_how_a_text_was_read(
    read: Callable[[list[str]], list[Read]], tokenizer: Tokenizer, text: str, expected: Read
) -> None:
    (found,) = read([text])
    assert found._replace(ids=[]) == expected
    if expected.certain:
        assert found.ids == ids_of(tokenizer, text)
    assert len(found.ids) <= 77
    assert found.ids[-1] == END_TOKEN


@pytest.mark.parametrize("content", ["", "{}", '{"model": {"type": "Other"}}'])
def test_another_file_is_refused(node: str, tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    assert run(node, tmp_path / "tokenizer.json", texts=[]).startswith("InputError: tokenizer.json is not a tokenizer")
