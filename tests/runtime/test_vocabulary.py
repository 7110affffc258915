"""Vocabulary files of both kinds: the same words and vectors again, or a clear error."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from t2d_runtime import ClassEmbeddings
from t2d_runtime.cli import main
from t2d_runtime.errors import ClassNamesError, OptionError, OutputError, VocabularyError

KINDS = ("words.npz", "words.safetensors")


@pytest.fixture
def vocabulary() -> ClassEmbeddings:
    vectors = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return ClassEmbeddings(("cat", "Straße", "猫 "), vectors, "digest")


@pytest.mark.parametrize("name", [*KINDS, "WORDS.NPZ", "words.Safetensors"])
def test_a_saved_vocabulary_is_the_same(vocabulary: ClassEmbeddings, tmp_path: Path, name: str) -> None:
    vocabulary.save(tmp_path / name)
    loaded = ClassEmbeddings.load(tmp_path / name)
    assert loaded.names == vocabulary.names
    assert loaded.digest == vocabulary.digest
    np.testing.assert_array_equal(loaded.vectors, vocabulary.vectors)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_safetensors_file_is_as_documented(vocabulary: ClassEmbeddings, tmp_path: Path) -> None:
    """Read by hand, as a program in another language does."""
    vocabulary.save(tmp_path / "words.safetensors")
    content = (tmp_path / "words.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert (8 + length) % 4 == 0, "the vectors can be viewed in place"
    assert header["text_embeds"] == {"dtype": "F32", "shape": [3, 8], "data_offsets": [0, 96]}
    vectors = np.frombuffer(content[8 + length :], "<f4").reshape(3, 8)
    np.testing.assert_array_equal(vectors, vocabulary.vectors)
    metadata = header["__metadata__"]
    assert metadata.keys() == {"format", "version", "names", "digest", "sha256"}
    assert (metadata["format"], metadata["version"], metadata["digest"]) == ("t2d-vocabulary", "1", "digest")
    assert json.loads(metadata["names"]) == ["cat", "Straße", "猫 "]


def test_embeddings_are_read_only_and_their_own(vocabulary: ClassEmbeddings) -> None:
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.vectors[0, 0] = 0
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.classes_of_rows[0] = 1
    with pytest.raises(TypeError, match="does not support item assignment"):
        vocabulary.thresholds["cat"] = 0.5  # type: ignore[index]
    vectors = np.eye(1, 2, dtype=np.float32)
    own = ClassEmbeddings(("cat",), vectors, "")
    vectors[:] = 0
    np.testing.assert_array_equal(own.vectors, [[1, 0]])


@pytest.mark.parametrize(
    ("names", "vectors", "error", "message"),
    [
        (("cat",), np.eye(3, 8), VocabularyError, r"1 class names and vectors of shape \(3, 8\), expected \(1, D\)"),
        (("cat",), np.eye(1, 8)[0], VocabularyError, r"vectors of shape \(8,\)"),
        (("cat",), np.full((1, 8), np.nan), VocabularyError, "lengths from nan to nan, expected 1"),
        (("cat", "dog"), np.diag([1, 100]), VocabularyError, "lengths from 1 to 100, expected 1"),
        (("cat",), [["x"]], VocabularyError, "class embeddings are not numbers"),
        (("cat", "Cat "), np.eye(2), ClassNamesError, "are the same"),
        ((), np.empty((0, 8)), ClassNamesError, "at least one class name"),
        ("cat", np.eye(3), ClassNamesError, "expected a list of class names"),
    ],
)
def test_embeddings_made_by_hand_are_checked(names: Any, vectors: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ClassEmbeddings(names, vectors, "digest")


def test_a_subset_has_the_vectors_of_its_names(vocabulary: ClassEmbeddings) -> None:
    some = vocabulary.subset(name for name in ("猫 ", "cat"))
    assert (some.names, some.digest) == (("猫 ", "cat"), "digest")
    np.testing.assert_array_equal(some.vectors, vocabulary.vectors[[2, 0]])
    with pytest.raises(ClassNamesError, match="not in the vocabulary: 'dog'; it has 3 names"):
        vocabulary.subset(["cat", "dog"])


def test_vocabularies_of_one_text_encoder_are_merged(vocabulary: ClassEmbeddings) -> None:
    more = ClassEmbeddings(("dog",), np.eye(1, 8), "digest")
    both = vocabulary.merge(more)
    assert both.names == (*vocabulary.names, "dog")
    np.testing.assert_array_equal(both.vectors, [*vocabulary.vectors, *more.vectors])
    with pytest.raises(ClassNamesError, match="are the same"):
        both.merge(more)
    with pytest.raises(VocabularyError, match="different text encoders"):
        vocabulary.merge(ClassEmbeddings(("dog",), np.eye(1, 8), "another"))
    with pytest.raises(VocabularyError, match="expected ClassEmbeddings to merge with, got list"):
        vocabulary.merge(["dog"])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KINDS)
def test_a_failed_save_leaves_nothing(vocabulary: ClassEmbeddings, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=rf"cannot write .*{name}"):
        vocabulary.save(tmp_path / "file" / name)
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=rf"cannot write .*{name}"):
        vocabulary.save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", name]


@pytest.mark.parametrize("name", ["words", "words.json"])
def test_another_suffix_is_refused(vocabulary: ClassEmbeddings, tmp_path: Path, name: str) -> None:
    message = r"has the suffix '(\.json)?'; a vocabulary file is \.npz or \.safetensors"
    with pytest.raises(OptionError, match=message):
        vocabulary.save(tmp_path / name)
    with pytest.raises(OptionError, match=message):
        ClassEmbeddings.load(tmp_path / name)
    assert not list(tmp_path.iterdir())


def stored(**changes: Any) -> dict[str, Any]:
    content = {"names": json.dumps(["cat", "dog"]), "vectors": np.ones((2, 4), np.float32), "digest": "d"}
    return content | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (stored(vectors=np.ones((3, 4), np.float32)), "has 2 names and vectors of shape (3, 4) and float32"),
        (stored(vectors=np.ones((2, 4))), "(2, 4) and float64, expected (2, D) and float32"),
        (
            stored(vectors=np.full((2, 4), np.nan, np.float32)),
            "class embeddings have lengths from nan to nan",
        ),
        (stored(vectors=np.array([{}, {}])), "is not a vocabulary file"),
        (stored(names="no json"), "is not a vocabulary file"),
        (stored(names=json.dumps(["cat", "cat"])), "is not a vocabulary file"),
        (stored(names=json.dumps(3)), "is not a vocabulary file"),
        ({"vectors": np.ones((2, 4), np.float32)}, "is not a vocabulary file"),
    ],
)
def test_another_npz_is_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "words.npz", **content)
    with pytest.raises(VocabularyError, match=re.escape(message)):
        ClassEmbeddings.load(tmp_path / "words.npz")


@pytest.mark.parametrize(
    ("changes", "tensors", "message"),
    [
        ({"format": None}, {}, "is not a vocabulary file (its format is None, expected 't2d-vocabulary')"),
        ({"format": "pt"}, {}, "is not a vocabulary file (its format is 'pt', expected 't2d-vocabulary')"),
        ({"version": "3"}, {}, "has version '3' of its format, this t2d-runtime reads 1 and 2"),
        ({"version": "2"}, {}, "is not a vocabulary file ('phrases')"),
        ({"digest": None}, {}, "is not a vocabulary file ('digest')"),
        ({"names": '["cat", "dog", "sea"]'}, {}, "does not have its checksum"),
        ({}, {"text_embeds": np.ones((3, 8))}, "does not have its checksum"),
        ({}, {"vectors": np.ones((3, 8), np.float32)}, "is not a vocabulary file"),
    ],
)
def test_another_safetensors_file_is_refused(
    vocabulary: ClassEmbeddings, tmp_path: Path, changes: dict[str, Any], tensors: dict[str, Any], message: str
) -> None:
    path = tmp_path / "words.safetensors"
    vocabulary.save(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata() | changes
    kept = {key: value for key, value in metadata.items() if value is not None}
    save_file(tensors or {"text_embeds": vocabulary.vectors}, path, kept)
    with pytest.raises(VocabularyError, match=re.escape(message)):
        ClassEmbeddings.load(path)


@pytest.mark.parametrize("name", KINDS)
def test_a_vocabulary_that_cannot_be_opened_says_why(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(VocabularyError, match=r"^cannot read .*: it is a folder$"):
        ClassEmbeddings.load(tmp_path / name)
    (tmp_path / f"loop-{name}").symlink_to(f"loop-{name}")
    with pytest.raises(VocabularyError, match="its links lead in a circle; give a path without them"):
        ClassEmbeddings.load(tmp_path / f"loop-{name}")


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_or_damaged_vocabulary_is_refused(vocabulary: ClassEmbeddings, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(VocabularyError, match="no such vocabulary file"):
        ClassEmbeddings.load(path)
    vocabulary.save(path)
    content = path.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2], content[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(VocabularyError, match=rf"{name} is not a vocabulary file"):
            ClassEmbeddings.load(path)


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_byte_of_the_vectors_is_found(vocabulary: ClassEmbeddings, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    vocabulary.save(path)
    content = bytearray(path.read_bytes())
    content[content.index(vocabulary.vectors.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=rf"{name} is (not a vocabulary file|damaged)"):
        ClassEmbeddings.load(path)


# The commands


@pytest.mark.parametrize("name", KINDS)
def test_the_command_writes_and_reads_both_kinds(exported_bundle: Path, tmp_path: Path, name: str) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / "noise.png")
    words, output, engine = tmp_path / name, tmp_path / "out", ["--backend", "onnxruntime"]
    assert main(["classes", str(exported_bundle), "--classes", "sea,snow", "--output", str(words), *engine]) == 0
    command = ["segment", str(exported_bundle), str(tmp_path / "noise.png"), "--vocabulary", str(words), *engine]
    assert main([*command, "--format", "json", "--output", str(output)]) == 0
    labels = json.loads((output / "noise.json").read_text())["labels"]
    assert [label["name"] for label in labels] == ["sea", "snow"]


def test_a_suffix_is_refused_before_words_are_encoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = str(tmp_path / "bundle")
    assert main(["classes", nowhere, "--classes", "sea", "--output", str(tmp_path / "words.json")]) == 2
    assert "a vocabulary file is .npz or .safetensors" in capsys.readouterr().err


def test_another_file_by_the_name_of_a_vocabulary_is_told_without_bad_advice(tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(b"[1]")
    with pytest.raises(VocabularyError, match=r"v\.npz is not a vocabulary file \(File is not a zip file\); make it"):
        ClassEmbeddings.load(tmp_path / "v.npz")


def test_bits_that_look_like_encryption_are_damage(vocabulary: ClassEmbeddings, tmp_path: Path) -> None:
    path = tmp_path / "words.npz"
    vocabulary.save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # flags of the first entry in the archive's directory
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=r"words.npz is not a vocabulary file \(.*encrypted"):
        ClassEmbeddings.load(path)


@pytest.mark.parametrize("rows", [10**13, 10**30])
def test_a_header_that_promises_more_than_the_file_holds_is_damage(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "words.npz"
    np.savez(path, names=json.dumps(["cat"]), digest="d")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (rows, 2)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vectors.npy", header.getvalue())
    expected = rf"is not a vocabulary file \(vectors.npy has 0 bytes, but its header says float32 \({rows}, 2\)\)"
    with pytest.raises(VocabularyError, match=expected):
        ClassEmbeddings.load(path)
