"""Other words between frames of a stream: `FrameStream.set_classes`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.errors import ClassNamesError, OptionError
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.streams.frames import Frame
from tests.streams.clips import pictures

ONE, TWO = pictures(2, (96, 128))


class Handed:
    """Images that are handed out one by one, so that no frame is ahead of the test."""

    def __init__(self) -> None:
        self.wanted = threading.Semaphore(0)

    def __call__(self, images: list[Any]) -> Iterator[Any]:
        for image in images:
            assert self.wanted.acquire(timeout=60)
            yield image

    def next(self, stream: Any) -> Frame:
        self.wanted.release()
        frame = next(stream)
        assert isinstance(frame, Frame)
        return frame


@pytest.fixture
def handed() -> Handed:
    return Handed()


def test_words_change_between_frames(segmenter: Segmenter, classes: ClassEmbeddings, handed: Handed) -> None:
    with segmenter.stream(handed([ONE, TWO, TWO, ONE]), classes, background=True) as stream:
        assert handed.next(stream).result.class_names == ("background", "sky", "grass", "person", "road")
        stream.set_classes(["wall", "tree"], background=True, threshold=0.56)
        result = handed.next(stream).result
        expected = segmenter.segment(TWO, ["wall", "tree"], background=True, threshold=0.56)
        assert result.class_names == ("background", "wall", "tree")
        np.testing.assert_array_equal(result.label_map, expected.label_map)
        stream.set_classes({"plant": ["tree", "grass"], "wall": "wall"})  # options left out are the defaults again
        result = handed.next(stream).result
        assert result.class_names == ("plant", "wall")
        assert result.settings == segmenter.segment(TWO, classes).settings
        stream.set_classes(segmenter.encode_classes(["tree"], negatives=["wall"]), refine=True)
        result = handed.next(stream).result
        expected = segmenter.segment(ONE, segmenter.encode_classes(["tree"], negatives=["wall"]), refine=True)
        np.testing.assert_array_equal(result.label_map, expected.label_map)


def test_the_window_changes_too(segmenter: Segmenter, classes: ClassEmbeddings, handed: Handed) -> None:
    """Also for a still frame, which is then encoded again."""
    wide = pictures(1, (96, 288))[0]
    with segmenter.stream(handed([wide] * 3), classes, window="whole", motion_threshold=4) as stream:
        handed.next(stream)
        for window in ("slide", "whole"):
            stream.set_classes(["tree", "wall"], window=window)
            frame = handed.next(stream)
            assert not frame.reused
            assert frame.result.settings.window == window
            expected = segmenter.segment(wide, ["tree", "wall"], window=window)
            np.testing.assert_array_equal(frame.result.label_map, expected.label_map)


def test_wrong_words_leave_the_former_ones(segmenter: Segmenter, classes: ClassEmbeddings, handed: Handed) -> None:
    with segmenter.stream(handed([ONE, TWO]), classes) as stream:
        handed.next(stream)
        for words, options in ((["tree", "Tree"], {}), (["tree"], {"threshold": 0.5})):
            with pytest.raises((ClassNamesError, OptionError)):
                stream.set_classes(words, **options)
        assert handed.next(stream).result.class_names == classes.names


def test_a_still_frame_is_labelled_again_but_not_encoded(
    segmenter: Segmenter, classes: ClassEmbeddings, handed: Handed
) -> None:
    with segmenter.stream(handed([ONE] * 3), classes, motion_threshold=4) as stream:
        handed.next(stream)
        stream.set_classes(["wall", "tree"])
        for _ in range(2):
            frame = handed.next(stream)
            assert frame.reused
            assert frame.result.class_names == ("wall", "tree")
            np.testing.assert_array_equal(frame.result.label_map, segmenter.segment(ONE, ["wall", "tree"]).label_map)


def test_scores_of_other_words_are_not_smoothed_with(
    segmenter: Segmenter, classes: ClassEmbeddings, handed: Handed
) -> None:
    """As many words as before, so that their scores would fit."""
    others = ["wall", "tree", "boat", "sea"]
    with segmenter.stream(handed([ONE, ONE]), classes, smoothing=0.9) as stream:
        handed.next(stream)
        stream.set_classes(others, keep_scores=True)
        result = handed.next(stream).result
    expected = segmenter.segment(ONE, others, keep_scores=True).scores
    np.testing.assert_allclose(result.scores, expected, atol=1e-6)


def test_the_fused_graph_takes_other_words(
    exported_bundle: Path, segmenter: Segmenter, classes: ClassEmbeddings, handed: Handed
) -> None:
    """Also for a still frame, whose result holds the former ones."""
    fused = FusedSegmenter.open(exported_bundle, backend="onnxruntime", num_threads=1)
    others = segmenter.encode_classes(["wall", "tree"])
    with fused.stream(handed([ONE] * 3), classes, motion_threshold=4) as stream:
        handed.next(stream)
        stream.set_classes(others)
        assert [handed.next(stream).result.class_names for _ in range(2)] == [others.names] * 2
        with pytest.raises(OptionError, match="expected ClassEmbeddings: the fused graph encodes no words"):
            stream.set_classes(["wall"])
