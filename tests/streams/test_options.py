"""Still frames that are not encoded again, cuts, and options that have no effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.errors import BackendError, OptionError
from t2d_runtime.streams.changes import Changes
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.sinks.others import CallbackSink
from tests.streams.clips import NoModel, frames_of, outcomes_of, pictures

ONE, TWO, THREE = pictures(3, (96, 128))
NOISE = np.random.default_rng(0).integers(-3, 4, (10, *ONE.shape))


def noisy(pixels: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The picture with a camera's noise."""
    return np.clip(pixels.astype(int) + NOISE[number], 0, 255).astype(np.uint8)


class Counting(NoModel):
    def __init__(self) -> None:
        self.encoded, self.labelled = 0, 0

    def encode(self, pixels: Any) -> Any:
        self.encoded += 1
        return super().encode(pixels)

    def label(self, encoded: Any, score_filter: Any = None) -> Any:
        self.labelled += 1
        return super().label(encoded)


def test_still_frames_are_not_encoded_again_and_keep_their_own_picture() -> None:
    images = [noisy(ONE, number) for number in range(5)] + [TWO] * 2
    model = Counting()
    frames = frames_of(images, segmenter=model, motion_threshold=4)
    assert [frame.reused for frame in frames] == [False, True, True, True, True, False, True]
    assert (model.encoded, model.labelled) == (2, 2)
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.result.image, image)
    model = Counting()
    frames_of(images, segmenter=model)
    assert (model.encoded, model.labelled) == (7, 7)


def test_a_small_thing_that_moves_is_not_still() -> None:
    moved = ONE.copy()
    moved[40:52, 60:72] = 255 - moved[40:52, 60:72]
    assert [frame.reused for frame in frames_of([ONE, moved], motion_threshold=4)] == [False, False]


def test_slow_changes_add_up() -> None:
    """Frames are compared with the one that was encoded, not with the one before."""
    images = [np.full((96, 128, 3), 100 + step, np.uint8) for step in range(10)]
    reused = [frame.reused for frame in frames_of(images, motion_threshold=4)]
    assert reused == [False, True, True, True, False, True, True, True, False, True]


def test_still_labels_are_those_of_the_frame_encoded(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    images = [noisy(ONE, number) for number in range(3)]
    frames = list(segmenter.stream(images, classes, motion_threshold=6))
    assert [frame.reused for frame in frames] == [False, True, True]
    expected = segmenter.segment(images[0], classes).label_map
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.result.label_map, expected)
        np.testing.assert_array_equal(frame.result.image, image)


def test_another_size_is_not_still() -> None:
    images = [np.full(size, 90, np.uint8) for size in ((96, 128, 3), (128, 96, 3), (97, 128, 3), (97, 128, 3))]
    assert [frame.reused for frame in frames_of(images, motion_threshold=4)] == [False, False, False, True]


def test_a_frame_after_one_that_failed_is_encoded() -> None:
    class Failing(Counting):
        def encode(self, pixels: Any) -> Any:
            result = super().encode(pixels)
            if self.encoded == 2:
                raise BackendError("no memory")
            return result

    model = Failing()
    outcomes = outcomes_of([ONE, TWO, TWO, TWO], segmenter=model, motion_threshold=4)
    assert [found.reused if isinstance(found, Frame) else None for found in outcomes] == [False, None, False, True]
    assert (model.encoded, model.labelled) == (3, 2)


def test_changes_tell_cuts() -> None:
    changes = Changes(None)
    cuts = [changes.of(image, (96, 128)).cut for image in (ONE, TWO, 255 - TWO, 255 - THREE)]
    assert cuts == [True, False, True, False]


def test_a_single_picture_has_nothing_to_smooth() -> None:
    with pytest.raises(OptionError, match="have no effect on pictures"):
        frames_of(ONE, smoothing=0.5)


def test_sinks_are_a_list_or_none() -> None:
    assert len(frames_of([ONE], sinks=None)) == 1
    for wrong in (CallbackSink(print), [print], 3):
        with pytest.raises(OptionError, match="expected a list of objects with write"):
            frames_of([ONE], sinks=wrong)


def test_the_fused_segmenter_streams_too(
    exported_bundle: Any, segmenter: Segmenter, classes: ClassEmbeddings, clip: Any
) -> None:
    from t2d_runtime.fused import FusedSegmenter

    fused = FusedSegmenter.open(exported_bundle, backend="onnxruntime", num_threads=1)
    frames = list(fused.stream(clip, classes, background=True, every=3))
    assert [frame.index for frame in frames if isinstance(frame, Frame)] == [0, 3, 6, 9]
    for frame in frames:
        assert isinstance(frame, Frame)
        expected = fused.segment(frame.result.image, classes, background=True).label_map
        np.testing.assert_array_equal(frame.result.label_map, expected)
    reused = [frame.reused for frame in fused.stream([ONE, ONE], classes, motion_threshold=4)]  # type: ignore[union-attr]
    assert reused == [False, True]
    for options in ({"smoothing": 0.5}, {"window": "slide"}, {"cleaning": "paper"}):
        with pytest.raises(OptionError, match="fused graph"):
            fused.stream(clip, classes, **options)  # type: ignore[arg-type]
