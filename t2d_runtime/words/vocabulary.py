"""Named classes and their embeddings, and the files that keep them: .npz, and .safetensors for every language."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import ClassNamesError, OptionError, VocabularyError
from t2d_runtime.storage.whole_file import whole_file
from t2d_runtime.words.text import check_class_names

NPZ, SAFETENSORS = ".npz", ".safetensors"
FORMAT = "t2d-vocabulary"
"""Of a .safetensors vocabulary; docs/segmenter-graph.md ("Vocabulary file") describes it for other languages."""

VERSION = 1
TENSOR = "text_embeds"
"""Name of the embeddings in a .safetensors file: that of the graph's input which takes them."""

LENGTH_TOLERANCE = 0.02
"""How far from 1 an embedding's length may be: twice what bfloat16's eight bits make of it."""

_KEYS = ("format", "version", "names", "digest", "sha256")

_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What readers raise for a damaged file; zipfile has RuntimeError for flipped bits that look like encryption."""


@dataclass(frozen=True, eq=False)
class ClassEmbeddings:
    """Named classes and their embeddings."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    """(N,D), L2-normalised, read-only."""
    digest: str
    """Identity of the text encoder and the tokenizer that made them."""

    def __post_init__(self) -> None:
        """Raises ClassNamesError, and VocabularyError for vectors that are not N unit vectors."""
        names = check_class_names(self.names)
        try:
            vectors = np.array(self.vectors, np.float32)
        except (TypeError, ValueError) as error:
            raise VocabularyError(f"class embeddings are no numbers: {error}") from error
        if vectors.ndim != 2 or len(vectors) != len(names):
            raise VocabularyError(
                f"{len(names)} class names and vectors of shape {vectors.shape}, expected ({len(names)}, D)"
            )
        wrong = wrong_lengths(vectors)
        if wrong is not None:
            raise VocabularyError(f"class embeddings have {wrong}")
        vectors.flags.writeable = False
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "vectors", vectors)

    def subset(self, names: Iterable[str]) -> ClassEmbeddings:
        """Some of the classes, in the order given. Raises ClassNamesError for one that is not among them."""
        wanted = check_class_names(names)
        rows = {name: row for row, name in enumerate(self.names)}
        missing = [name for name in wanted if name not in rows]
        if missing:
            raise ClassNamesError(f"not in the vocabulary: {', '.join(map(repr, missing))}; it has {len(rows)} names")
        return replace(self, names=wanted, vectors=self.vectors[[rows[name] for name in wanted]])

    def merge(self, other: ClassEmbeddings) -> ClassEmbeddings:
        """These classes, then the other ones.

        Raises ClassNamesError (a name in both) and VocabularyError (another text encoder).
        """
        if other.digest != self.digest:
            raise VocabularyError(
                f"the vocabularies were made with different text encoders (digests {self.digest[:12]}… and "
                f"{other.digest[:12]}…); make one of them again"
            )
        return replace(self, names=self.names + other.names, vectors=np.concatenate([self.vectors, other.vectors]))

    def save(self, path: str | Path) -> None:
        """Write a vocabulary file, whole or not at all; the suffix, .npz or .safetensors, says which kind.

        Raises OptionError for another suffix, and OutputError.
        """
        suffix = vocabulary_suffix(path)
        with whole_file(Path(path)) as file:
            if suffix == NPZ:
                np.savez(file, names=json.dumps(self.names), vectors=self.vectors, digest=self.digest)
            else:
                file.write(self._safetensors())

    @classmethod
    def load(cls, path: str | Path) -> ClassEmbeddings:
        """Read a vocabulary file; the suffix, .npz or .safetensors, says which kind.

        Raises VocabularyError where it is not one, and OptionError for another suffix.
        """
        suffix = vocabulary_suffix(path)
        try:
            return (_load_npz if suffix == NPZ else _load_safetensors)(Path(path))
        except FileNotFoundError as error:
            raise VocabularyError(f"{path}: no such vocabulary file") from error
        except VocabularyError:
            raise
        except _DAMAGE as error:
            raise VocabularyError(f"{path} is not a vocabulary file ({error}); make it again") from error

    def _safetensors(self) -> bytes:
        from safetensors.numpy import save

        names = json.dumps(self.names)
        values = (FORMAT, str(VERSION), names, self.digest, _checksum(names, self.vectors))
        content: bytes = save({TENSOR: self.vectors}, dict(zip(_KEYS, values, strict=True)))
        return content


def wrong_lengths(vectors: NDArray[np.float32]) -> str | None:
    """What is wrong with embeddings (N,D) that should be unit vectors, in words; None where they are."""
    lengths = np.linalg.norm(vectors, axis=1)
    if (np.abs(lengths - 1) <= LENGTH_TOLERANCE).all():  # false for what is not finite
        return None
    return f"lengths from {lengths.min():.3g} to {lengths.max():.3g}, expected 1"


def vocabulary_suffix(path: str | Path) -> str:
    """ ".npz" or ".safetensors", the kind of a vocabulary file. Raises OptionError for anything else."""
    suffix = Path(path).suffix.lower()
    if suffix not in (NPZ, SAFETENSORS):
        raise OptionError(f"{path} has the suffix {suffix!r}; a vocabulary file is {NPZ} or {SAFETENSORS}")
    return suffix


def _load_npz(path: Path) -> ClassEmbeddings:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        names, vectors, digest = (file[name] for name in ("names", "vectors", "digest"))
    return _checked(path, str(names), vectors, str(digest))


def _load_safetensors(path: Path) -> ClassEmbeddings:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, expected {FORMAT!r}")
            if metadata.get("version") != str(VERSION):
                raise VocabularyError(
                    f"{path} has version {metadata.get('version')!r} of its format, this t2d-runtime reads {VERSION}; "
                    "update t2d-runtime, or make the file again"
                )
            names, digest, checksum = (metadata[key] for key in _KEYS[2:])
            vectors = np.array(file.get_tensor(TENSOR))
    except SafetensorError as error:
        raise ValueError(error) from error
    if _checksum(names, vectors) != checksum:
        raise VocabularyError(f"{path} is damaged: its content does not have its checksum; copy or make it again")
    return _checked(path, names, vectors, digest)


def _checksum(names: str, vectors: NDArray[np.float32]) -> str:
    """sha256 of the names' JSON, in UTF-8, followed by the vectors, little-endian: the tensor as the file holds it."""
    return hashlib.sha256(names.encode() + vectors.astype("<f4", copy=False).tobytes()).hexdigest()


def _checked(path: Path, names_json: str, vectors: NDArray[np.float32], digest: str) -> ClassEmbeddings:
    names = check_class_names(json.loads(names_json))
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(names):
        raise VocabularyError(
            f"{path} has {len(names)} names and vectors of shape {vectors.shape} and {vectors.dtype}, "
            f"expected ({len(names)}, D) and float32; make it again"
        )
    try:
        return ClassEmbeddings(names, vectors, digest)
    except VocabularyError as error:
        raise VocabularyError(f"{path} is damaged: {error}; make it again") from error
