"""Writes a bundle's tokenizer.json from CLIP's byte-pair vocabulary, which open_clip contains."""

from __future__ import annotations

import gzip
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")
NUM_MERGES = 49152 - 256 - 2
"""Number of the file's merges that CLIP uses (simple_tokenizer.py)."""

WORD_END = "</w>"


def write_tokenizer(path: Path) -> None:
    """Write tokenizer.json for `t2d_runtime.words.text.Tokenizer`, which splits text into words itself.

    The tokenizers library gets single words, since its own splitter has other Unicode tables than CLIP's `regex`.
    """
    merges = _read_merges()
    byte_symbols = _byte_symbols()
    symbols = [*byte_symbols, *(symbol + WORD_END for symbol in byte_symbols)]
    symbols += [left + right for left, right in merges]
    symbols += SPECIAL_TOKENS
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=WORD_END))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    path.write_text(tokenizer.to_str(), encoding="utf-8")


def _read_merges() -> list[tuple[str, str]]:
    """CLIP's merges in order of rank; the file's first line is a header."""
    from open_clip.tokenizer import default_bpe

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : NUM_MERGES + 1]
    return [(left, right) for left, right in (line.split() for line in lines)]


def _byte_symbols() -> list[str]:
    """One printable symbol a byte, in the order of CLIP's ids."""
    from open_clip.tokenizer import bytes_to_unicode

    return list(bytes_to_unicode().values())
