"""A device that has a vocabulary of its words goes without what encodes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeEngine
from t2d_runtime.bundle.files import TEXT_ENCODER, TOKENIZER, Bundle
from t2d_runtime.cli import main
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BundleError, BundleNotFoundError, SelfTestError
from t2d_runtime.fused import FusedSegmenter

PICTURE = np.asarray(data.coffee())[::4, ::4]
REPAIR = r"is missing from the bundle; copy or export the bundle again, or segment with a vocabulary"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("T2D_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def device(bundle_copy: Path) -> Path:
    """The bundle without its text encoders, of every precision, and its tokenizer."""
    for path in (bundle_copy / TOKENIZER, *bundle_copy.rglob(TEXT_ENCODER)):
        path.unlink()
    return bundle_copy


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_vocabulary_is_enough(
    exported_bundle: Path, device: Path, classes: ClassEmbeddings, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Segmenter.open(exported_bundle, backend="onnxruntime", precision=precision)
    assert "leaves out" not in caplog.text
    segmenter = Segmenter.open(device, backend="onnxruntime", precision=precision)
    assert "the self-test leaves out input_ids and text_embeds" in caplog.text
    expected = whole.segment(PICTURE, classes, background=True).label_map
    np.testing.assert_array_equal(segmenter.segment(PICTURE, classes, background=True).label_map, expected)


def test_the_fused_graph_takes_a_vocabulary_too(exported_bundle: Path, device: Path, classes: ClassEmbeddings) -> None:
    labels = [
        FusedSegmenter.open(bundle, backend="onnxruntime").segment(PICTURE, classes).label_map
        for bundle in (exported_bundle, device)
    ]
    np.testing.assert_array_equal(*labels)


@pytest.mark.parametrize("name", [TEXT_ENCODER, TOKENIZER])
def test_words_are_refused_by_the_name_of_what_is_missing(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    segmenter = Segmenter.open(bundle_copy, backend="onnxruntime")
    with pytest.raises(BundleNotFoundError, match=f"{name} {REPAIR}"):
        segmenter.encode_classes(["sky"])


def test_what_is_there_must_be_whole(bundle_copy: Path) -> None:
    path = bundle_copy / TEXT_ENCODER
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=f"{TEXT_ENCODER} has sha256"):
        Segmenter.open(bundle_copy, backend="onnxruntime")
    path.write_bytes(content[:-1])
    with pytest.raises(BundleError, match=rf"{TEXT_ENCODER} has \d+ bytes"):
        Bundle.open(bundle_copy)


def test_a_proof_without_words_is_none_for_words(
    exported_bundle: Path, device: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Segmenter.open(device, backend="onnxruntime")
    Segmenter.open(device, backend="onnxruntime")
    assert len(list((cache / "verdicts").iterdir())) == 1
    for name in (TEXT_ENCODER, TOKENIZER):
        shutil.copyfile(exported_bundle / name, device / name)
    real = OnnxRuntimeEngine.run

    def run(self: OnnxRuntimeEngine, inputs: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
        return {name: -value if name == "text_embeds" else value for name, value in real(self, inputs).items()}

    monkeypatch.setattr(OnnxRuntimeEngine, "run", run)
    with pytest.raises(SelfTestError, match="text_embeds: "):
        Segmenter.open(device, backend="onnxruntime")


def test_the_self_test_leaves_no_text_encoder_in_memory(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    real = Encoders._load
    monkeypatch.setattr(Encoders, "_load", lambda self, graph: (loaded.append(graph), real(self, graph))[1])
    segmenter = Segmenter.open(exported_bundle, backend="onnxruntime")
    assert TEXT_ENCODER in loaded
    assert segmenter.encoders._text_encoder is None
    segmenter.encode_classes(["a word of its own"])
    assert loaded.count(TEXT_ENCODER) == 2


def test_the_commands(
    exported_bundle: Path, device: Path, classes: ClassEmbeddings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "picture.png")
    classes.save(tmp_path / "words.npz")
    here = [str(device), "--backend", "onnxruntime"]
    segment = ["segment", *here, str(tmp_path / "picture.png"), "--output", str(tmp_path / "out")]
    assert main([*segment, "--vocabulary", str(tmp_path / "words.npz")]) == 0
    assert main(["selftest", *here]) == 0
    assert main(["info", str(device)]) == 0
    out = capsys.readouterr().out
    assert "patch_tokens" in out
    assert "text_embeds" not in out
    assert f"left off        {', '.join(Bundle.open(device).left_off)}" in out
    for command in ([*segment, "--classes", "sky"], ["bench", *here, "--rounds", "1"]):
        assert main(command) == 2
        assert f"{TOKENIZER} is missing" in capsys.readouterr().err
