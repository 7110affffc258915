"""A server with a vocabulary, and without a text encoder: it answers the words that it knows, and names them."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bundle.files import TEXT_ENCODER, TOKENIZER
from t2d_runtime.cli import main
from t2d_runtime.errors import ClassNamesError
from t2d_runtime.serving.known_words import WORDS_SHOWN, KnownWords
from t2d_runtime.serving.live import Live
from t2d_runtime.serving.server import Server
from t2d_runtime.words.class_list import checked_classes

from .conftest import TIMEOUT_S, Serve

PHRASES = {"person": ["man", "woman"], "sky": "sky", "Green grass": "green grass"}
NEGATIVES, THRESHOLDS = ["wall"], {"sky": 0.52}


@pytest.fixture(scope="module")
def vocabulary(segmenter: Segmenter) -> ClassEmbeddings:
    return segmenter.encode_classes(PHRASES, "simple", negatives=NEGATIVES, thresholds=THRESHOLDS)


@pytest.fixture(scope="module")
def device(exported_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle without its text encoders and its tokenizer."""
    folder = Path(shutil.copytree(exported_bundle, tmp_path_factory.mktemp("device") / "bundle"))
    for path in (folder / TOKENIZER, *folder.rglob(TEXT_ENCODER)):
        path.unlink()
    return folder


@pytest.fixture(scope="module")
def client(serve: Serve, device: Path, vocabulary: ClassEmbeddings) -> Iterator[httpx.Client]:
    of = Segmenter.open(device, backend="onnxruntime")
    with (
        serve(of=of, known=KnownWords(vocabulary, 200)) as running,
        httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client,
    ):
        yield client


def ask(client: httpx.Client, photo: bytes, **values: Any) -> httpx.Response:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return client.post("/segment", files={"image": photo}, data=texts)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({"classes": "person,sky"}, {"classes": {"person": ["man", "woman"], "sky": "sky"}}),
        ({"classes": " SKY ,green  grass"}, {"classes": {"SKY": "sky", "green  grass": "green grass"}}),
        ({"classes": {"people": "person", "sky": "sky"}}, {"classes": {"people": ["man", "woman"], "sky": "sky"}}),
        ({"classes": "woman,sky", "negatives": "wall"}, {"classes": ["woman", "sky"], "negatives": ["wall"]}),
        ({"classes": "sky,man", "background": True}, {"classes": ["sky", "man"], "thresholds": {"sky": 0.52}}),
        (
            {"classes": "sky,man", "background": True, "thresholds": {"sky": 0.4}},
            {"classes": ["sky", "man"], "thresholds": {"sky": 0.4}},
        ),
    ],
)
def test_known_words_are_answered(
    client: httpx.Client,
    segmenter: Segmenter,
    pixels: NDArray[np.uint8],
    photo: bytes,
    asked: dict[str, Any],
    meant: dict[str, Any],
) -> None:
    classes = segmenter.encode_classes(prompts="simple", **meant)
    expected = segmenter.segment(pixels, classes, background=asked.get("background", False))
    answer = ask(client, photo, **asked, format="grey")
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected.label_map)
    if "background" in asked and meant["thresholds"]["sky"] == 0.52:
        assert set(np.unique(expected.label_map)) > {0}, "the threshold must part the picture"


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        (
            {"classes": "sky,car"},
            "this server has a vocabulary in place of a text encoder, and does not know 'car'; expected some of "
            "'person', 'sky', 'Green grass', 'man', 'woman', 'wall'",
        ),
        ({"classes": "sky", "negatives": "car"}, "does not know 'car'"),
        ({"classes": {"a": "person", "b": "man"}}, "the phrase 'man' is in two classes"),
        ({"classes": "sky", "prompts": "simple"}, "prompts have no effect: this server's words are encoded already"),
    ],
)
def test_other_words_are_told(client: httpx.Client, photo: bytes, asked: dict[str, Any], detail: str) -> None:
    answer = ask(client, photo, **asked)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


def test_the_words_are_among_the_facts(client: httpx.Client) -> None:
    assert client.get("/info").json()["vocabulary"] == ["person", "sky", "Green grass", "man", "woman", "wall"]


def test_lists_are_bounded(segmenter: Segmenter) -> None:
    names = [f"thing {number}" for number in range(WORDS_SHOWN + 5)]
    vectors = np.eye(len(names), segmenter.manifest.model.embed_dim, dtype=np.float32)
    known = KnownWords(ClassEmbeddings(tuple(names), vectors, "a" * 64), most_phrases=3)
    with pytest.raises(ClassNamesError, match=r"'thing 19' and 5 more, which GET /info lists$") as caught:
        known.embeddings(checked_classes([f"other {number}" for number in range(100)]))
    assert "'other 19'" in str(caught.value)
    assert "'other 20'" not in str(caught.value)
    with pytest.raises(ClassNamesError, match="these words have 4 phrases, expected at most 3"):
        known.embeddings(checked_classes(names[:4]))


def test_the_command_needs_a_text_encoder_or_a_vocabulary(
    device: Path,
    exported_bundle: Path,
    vocabulary: ClassEmbeddings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started = []
    monkeypatch.setattr(Server, "run", lambda self, sockets: started.append(self))
    files = tmp_path / "words.npz", tmp_path / "others.npz"
    vocabulary.save(files[0])
    ClassEmbeddings(("sky",), vocabulary.vectors[:1], "f" * 64).save(files[1])
    command = ["serve", str(device), "--port", "0", "--backend", "onnxruntime"]
    for options, message in (
        ([], f"{TOKENIZER} is missing from the bundle; copy or export the bundle again, or segment with a vocabulary"),
        ([], "t2d serve takes a vocabulary with --vocabulary F"),
        (["--vocabulary", str(tmp_path / "none.npz")], "none.npz: no such vocabulary file"),
        (["--vocabulary", str(files[1])], "the vocabulary was made with another text encoder"),
    ):
        assert main([*command, *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert started == []
    assert main([*command, "--vocabulary", str(files[0])]) == 0
    assert len(started) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], {"person": ["man", "woman"], "sky": ["sky"]}), (["--classes", "person"], {"person": ["man", "woman"]})],
)
def test_a_live_source_begins_with_the_vocabulary(
    device: Path,
    segmenter: Segmenter,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    expected: dict[str, list[str]],
) -> None:
    begun: list[dict[str, Any]] = []
    real = Live.__init__

    def init(self: Live, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        begun.append(self.info()["words"]["classes"])

    monkeypatch.setattr(Live, "__init__", init)
    monkeypatch.setattr(Server, "run", lambda self, sockets: None)
    segmenter.encode_classes({"person": ["man", "woman"], "sky": "sky"}).save(tmp_path / "words.safetensors")
    source = ["--source", str(clip), "--vocabulary", str(tmp_path / "words.safetensors")]
    assert main(["serve", str(device), "--port", "0", "--backend", "onnxruntime", *source, *words]) == 0
    assert begun == [expected]
