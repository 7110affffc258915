"""When the text encoder is loaded: with the first new word, or beside the image encoder."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from t2d_runtime.commands.opening import open_with_words
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BackendError, ClassNamesError

NAMES = ["sky", "grass", "person", "road"]


class WatchedBackend(OnnxRuntimeBackend):
    """ONNX Runtime, which notes its loads; each waits until as many loads as are expected together have begun."""

    def __init__(self, together: int = 1) -> None:
        super().__init__("onnxruntime")
        self.loaded: list[str] = []
        self._barrier = threading.Barrier(together, timeout=30)

    def load(self, bundle: Bundle, graph: str, **options: Any) -> Any:
        self._barrier.wait()
        engine = super().load(bundle, graph, **options)
        self.loaded.append(graph)
        return engine


def test_both_encoders_are_loaded_side_by_side(exported_bundle: Path, classes: ClassEmbeddings) -> None:
    backend = WatchedBackend(together=2)
    encoders = Encoders(Bundle.open(exported_bundle), backend, precision="fp32", load_text_encoder=True)
    assert encoders.has_text_encoder
    np.testing.assert_allclose(encoders.encode_classes(NAMES).vectors, classes.vectors, atol=1e-6)
    assert sorted(backend.loaded) == sorted([IMAGE_ENCODER, TEXT_ENCODER])


def test_a_backend_of_a_gpu_loads_them_one_after_the_other(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2d_runtime.encoders.AUTOMATIC", ("openvino",))
    backend = WatchedBackend()
    Encoders(Bundle.open(exported_bundle), backend, precision="fp32", load_text_encoder=True)
    assert backend.loaded == [IMAGE_ENCODER, TEXT_ENCODER]


def test_otherwise_the_first_word_loads_it(exported_bundle: Path) -> None:
    backend = WatchedBackend()
    encoders = Encoders(Bundle.open(exported_bundle), backend, precision="fp32")
    assert backend.loaded == [IMAGE_ENCODER]
    encoders.encode_classes(["sky"])
    assert backend.loaded == [IMAGE_ENCODER, TEXT_ENCODER]


@pytest.mark.parametrize("bad", [IMAGE_ENCODER, TEXT_ENCODER])
def test_an_encoder_that_does_not_load_is_the_error(
    exported_bundle: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    real = OnnxRuntimeBackend.load

    def load(self: OnnxRuntimeBackend, bundle: Bundle, graph: str, **options: Any) -> Any:
        if graph == bad:
            raise BackendError(f"{graph} does not load")
        return real(self, bundle, graph, **options)

    monkeypatch.setattr(OnnxRuntimeBackend, "load", load)
    with pytest.raises(BackendError, match=f"^{bad} does not load$"):
        Segmenter.open(exported_bundle, backend="onnxruntime", load_text_encoder=True)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_self_test_keeps_the_text_encoder_where_it_was_asked_for(
    exported_bundle: Path, cache: Path, runs: list[str], wanted: bool
) -> None:
    with Segmenter.open(exported_bundle, backend="onnxruntime", load_text_encoder=wanted) as opened:
        assert runs == ["fp32"]
        assert opened.encoders.has_text_encoder is wanted


@pytest.mark.parametrize("encoded", [False, True])
def test_commands_load_it_where_their_words_are_not_encoded(
    exported_bundle: Path, classes: ClassEmbeddings, tmp_path: Path, encoded: bool
) -> None:
    classes.save(tmp_path / "words.npz")
    args = argparse.Namespace(bundle=exported_bundle, backend="onnxruntime", precision="fp32", threads=1)
    args.classes, args.classes_file, args.prompts = None if encoded else ",".join(NAMES), None, None
    args.vocabulary = tmp_path / "words.npz" if encoded else None
    segmenter, words = open_with_words(args)
    with segmenter:
        assert words.names == tuple(NAMES)
        assert segmenter.encoders.has_text_encoder is not encoded


def test_wrong_words_are_told_before_anything_is_loaded(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: OnnxRuntimeBackend, *args: object, **options: object) -> None:
        pytest.fail("an encoder is loaded")

    monkeypatch.setattr(OnnxRuntimeBackend, "load", load)
    args = argparse.Namespace(bundle=exported_bundle, backend="onnxruntime", precision="fp32", threads=1)
    args.classes, args.classes_file = "sky,sky", None
    with pytest.raises(ClassNamesError, match="class names 'sky' and 'sky' are the same"):
        open_with_words(args)
