"""Vocabulary files: classes and embeddings as .npz, or as .safetensors, which programs in any language can read.

docs/segmenter-graph.md ("Vocabulary file") describes the .safetensors form. Version 1 holds names alone. Version 2 adds
phrases, negatives and thresholds, and is written only where there are some.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import OptionError, VocabularyError
from t2d_runtime.storage.npz import NPZ_ERRORS, read_npz
from t2d_runtime.storage.reading import check_readable
from t2d_runtime.storage.whole_file import whole_file

NPZ, SAFETENSORS = ".npz", ".safetensors"
FORMAT = "t2d-vocabulary"
PLAIN, WITH_PHRASES = "1", "2"
"""Versions of the format."""

TENSOR = "text_embeds"
"""Name of the embeddings in a .safetensors file. The graph's input for them has the same name."""


@dataclass(frozen=True)
class VocabularyContent:
    """Content of a vocabulary file."""

    names: list[str]
    vectors: NDArray[np.float32]
    """(P,D)."""
    digest: str
    phrases: list[str]
    """P phrases; empty where each name is its own phrase."""
    class_indices: list[int]
    """Class index of each phrase; -1 for negatives."""
    thresholds: dict[str, float]

    @property
    def words(self) -> dict[str, str]:
        """The fields as JSON. Fields of version 2 are left out where they are empty."""
        more = {"phrases": self.phrases, "class_indices": self.class_indices, "thresholds": self.thresholds}
        fields: dict[str, Any] = {"names": self.names, **(more if self.phrases or self.thresholds else {})}
        return {name: json.dumps(value) for name, value in fields.items()}


def vocabulary_suffix(path: str | Path) -> str:
    """ ".npz" or ".safetensors", the kind of a vocabulary file. Raises OptionError for another suffix."""
    suffix = Path(path).suffix.lower()
    if suffix not in (NPZ, SAFETENSORS):
        raise OptionError(f"{path} has the suffix {suffix!r}; a vocabulary file is {NPZ} or {SAFETENSORS}")
    return suffix


def write_vocabulary(path: Path, content: VocabularyContent) -> None:
    """Write a file whole or not at all, in the format of its suffix. Raises OptionError and OutputError."""
    suffix = vocabulary_suffix(path)
    with whole_file(path) as file:
        if suffix == NPZ:
            np.savez(file, **content.words, vectors=content.vectors, digest=content.digest)  # type: ignore[arg-type]
        else:
            file.write(_safetensors(content))


def read_vocabulary(path: Path) -> VocabularyContent:
    """Read a file in the format of its suffix. Raises VocabularyError for another content, and OptionError."""
    suffix = vocabulary_suffix(path)
    try:
        check_readable(path, VocabularyError)
        return (_read_npz if suffix == NPZ else _read_safetensors)(path)
    except FileNotFoundError as error:
        raise VocabularyError(f"{path}: no such vocabulary file") from error
    except VocabularyError:
        raise
    except NPZ_ERRORS as error:
        raise VocabularyError(f"{path} is not a vocabulary file ({error}); make it again") from error


def _safetensors(content: VocabularyContent) -> bytes:
    from safetensors.numpy import save

    words = content.words
    metadata = {
        "format": FORMAT,
        "version": WITH_PHRASES if len(words) > 1 else PLAIN,
        **words,
        "digest": content.digest,
        "sha256": _checksum(words, content.vectors),
    }
    written: bytes = save({TENSOR: content.vectors}, metadata)
    return written


def _read_npz(path: Path) -> VocabularyContent:
    arrays = read_npz(path)
    words = {name: str(array) for name, array in arrays.items() if name not in ("vectors", "digest")}
    return _content(path, words, arrays["vectors"], str(arrays["digest"]))


def _read_safetensors(path: Path) -> VocabularyContent:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, expected {FORMAT!r}")
            version = metadata.get("version")
            if version not in (PLAIN, WITH_PHRASES):
                raise VocabularyError(
                    f"{path} has version {version!r} of its format, this t2d-runtime reads {PLAIN} and {WITH_PHRASES}; "
                    "update t2d-runtime, or make the file again"
                )
            fields = ("names",) if version == PLAIN else ("names", "phrases", "class_indices", "thresholds")
            words = {name: metadata[name] for name in fields}
            digest, checksum = metadata["digest"], metadata["sha256"]
            vectors = np.array(file.get_tensor(TENSOR))
    except SafetensorError as error:
        raise ValueError(error) from error
    if _checksum(words, vectors) != checksum:
        raise VocabularyError(f"{path} is damaged: its content does not have its checksum; copy or make it again")
    return _content(path, words, vectors, digest)


def _checksum(words: dict[str, str], vectors: NDArray[np.float32]) -> str:
    """sha256 of the words' JSON in UTF-8, field after field, and of the vectors as stored, little-endian."""
    return hashlib.sha256("".join(words.values()).encode() + vectors.astype("<f4", copy=False).tobytes()).hexdigest()


def _content(path: Path, words: dict[str, str], vectors: NDArray[np.float32], digest: str) -> VocabularyContent:
    fields = {name: json.loads(text) for name, text in words.items()}
    names, phrases = fields["names"], fields.get("phrases", [])
    indices, thresholds = fields.get("class_indices", []), fields.get("thresholds", {})
    if not all(isinstance(value, list) for value in (names, phrases, indices)) or not isinstance(thresholds, dict):
        raise ValueError("its words are not lists")
    count = len(phrases) or len(names)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != count:
        raise VocabularyError(
            f"{path} has {count} names and vectors of shape {vectors.shape} and {vectors.dtype}, "
            f"expected ({count}, D) and float32; make it again"
        )
    return VocabularyContent(names, vectors, digest, phrases, indices, thresholds)
