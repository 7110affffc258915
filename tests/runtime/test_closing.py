"""A closed segmenter: its memory is free, and later calls say so."""

from __future__ import annotations

import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import Segmenter
from t2d_runtime.backends.registry import available_backends
from t2d_runtime.errors import ClosedError

IMAGE: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.fixture
def opened(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime", num_threads=1)


@pytest.mark.parametrize("backend", [name for name in ("onnxruntime", "openvino") if name in available_backends()])
def test_closing_frees_the_engines(exported_bundle: Path, backend: str) -> None:
    with Segmenter.open(exported_bundle, backend=backend, num_threads=1) as segmenter:
        segmenter.segment(IMAGE, ["sky", "grass"])
        engines = [segmenter.encoders._image_encoder, segmenter.encoders._text_encoder]
        assert None not in engines
        alive = [weakref.ref(engine) for engine in engines]
        del engines
    gc.collect()
    assert [engine() for engine in alive] == [None, None]


def test_calls_after_closing_are_one_clear_error(opened: Segmenter) -> None:
    classes = opened.encode_classes(["sky", "grass"])
    encoding = opened.encode_image(IMAGE)
    opened.close()
    opened.close()
    for call in (
        lambda: opened.segment(IMAGE, classes),
        lambda: opened.segment(encoding, classes),
        lambda: opened.encode_image("nowhere.jpg"),
        lambda: opened.encode_classes(["sky"]),
        lambda: opened.encode_classes(["another"]),
        lambda: opened.segment_batch([IMAGE], classes),
        lambda: opened.stream(IMAGE, classes),
        lambda: opened.score_planes(encoding, classes),
        lambda: opened.encoders.tokenize(["sky"]),
        lambda: opened.encoders.run_image_encoder(encoding.resized[np.newaxis]),
    ):
        with pytest.raises(ClosedError) as raised:
            call()
        assert str(raised.value) == f"the segmenter of {opened.bundle.folder} was closed; open the bundle again"
    opened.release_text_encoder()
    assert repr(opened).endswith("in fp32, closed)")


def test_a_pickle_of_a_closed_segmenter_is_open(opened: Segmenter) -> None:
    expected = opened.segment(IMAGE, ["sky", "grass"]).label_map
    opened.close()
    with pickle.loads(pickle.dumps(opened)) as again:
        np.testing.assert_array_equal(again.segment(IMAGE, ["sky", "grass"]).label_map, expected)


def test_a_call_that_runs_ends_as_usual(opened: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = opened.encode_image(IMAGE).patch_tokens
    engine: Any = opened.encoders._image_encoder
    begun, closed, run = Event(), Event(), engine.run

    def waiting(inputs: Any) -> Any:
        begun.set()
        assert closed.wait(30)
        return run(inputs)

    monkeypatch.setattr(engine, "run", waiting)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(opened.encode_image, IMAGE)
        assert begun.wait(30)
        opened.close()
        closed.set()
        np.testing.assert_array_equal(running.result().patch_tokens, expected)
