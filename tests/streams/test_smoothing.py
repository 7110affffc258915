"""Scores smoothed over time, along the motion of the picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.image.windows import Window
from t2d_runtime.streams.motion import motion_between, sampled, small_picture
from t2d_runtime.streams.smoothing import Smoothing
from tests.streams.clips import pictures, write_clip

ONE, TWO, THREE = pictures(3, (96, 128))
WHOLE = (Window(0, 0, 112, 112),)
GREY = np.full((112, 112, 3), 120, np.uint8)


def scene(seed: int = 0, side: int = 240) -> NDArray[np.uint8]:
    """A picture with something to see everywhere, larger than the frames that are cut from it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def seen(picture: NDArray[Any], top: int, left: int, side: int = 112) -> NDArray[Any]:
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


# Motion


@settings(max_examples=25, deadline=None)
@given(st.integers(-9, 9), st.integers(-9, 9))
def test_the_motion_of_a_camera_is_found(down: int, right: int) -> None:
    before, now = (small_picture(seen(scene(), 60 - y, 60 - x)) for y, x in ((0, 0), (down, right)))
    found = np.median(motion_between(before, now).shifts[4:-4, 4:-4], axis=(0, 1))
    np.testing.assert_allclose(found, (down / 4, right / 4), atol=0.3)


def test_a_thing_moves_by_itself() -> None:
    frames = [seen(scene(), 60, 60) for _ in range(2)]
    for frame, left in zip(frames, (40, 48), strict=True):
        frame[40:80, left : left + 40] = seen(scene(1), 0, 0, 40)
    motion = motion_between(*map(small_picture, frames))
    np.testing.assert_allclose(motion.shifts[12:18, 14:20].mean(axis=(0, 1)), (0, 2), atol=0.1)
    assert np.abs(motion.shifts[:6]).mean() < 0.12
    assert motion.unexplained[12:18, 14:20].mean() < 4
    assert motion.unexplained[11:19, 9:12].mean() > 15  # what the thing had hidden


def test_flat_areas_move_with_the_rest() -> None:
    wide = scene().copy()
    wide[90:130] = 120
    motion = motion_between(*(small_picture(seen(wide, 60, left)) for left in (60, 52)))
    np.testing.assert_allclose(motion.shifts[10:15, 4:-4], np.broadcast_to((0, 2), (5, 20, 2)), atol=0.3)


def test_samples_between_places_are_linear() -> None:
    rows, columns = np.indices((5, 7), np.float32)
    values = np.stack([2 * rows + 3 * columns, rows * columns], -1)
    at = np.array([[0.0, 1.25], [3.5, 4.0]], np.float32), np.array([[6.0, 2.5], [0.75, 5.25]], np.float32)
    found = sampled(values, *at)
    np.testing.assert_allclose(found[..., 0], 2 * at[0] + 3 * at[1], rtol=1e-6)
    np.testing.assert_allclose(found[..., 1], at[0] * at[1], rtol=1e-6)
    beyond = sampled(values, np.array([-3.0, 9.0], np.float32), np.array([-1.0, 8.0], np.float32))
    np.testing.assert_array_equal(beyond, [values[0, 0], values[4, 6]])


# Scores


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6), st.floats(0.01, 0.99))
def test_smoothing_is_an_exponential_mean_where_nothing_moves(values: list[float], smoothing: float) -> None:
    smooth, expected = Smoothing(smoothing), values[0]
    for number, value in enumerate(values):
        expected = value if number == 0 else smoothing * expected + (1 - smoothing) * value
        found = smooth.smooth(GREY, WHOLE, np.full((1, 2, 8, 8), value, np.float32))
        assert found.shape == ((1, 2, 15, 15) if number else (1, 2, 8, 8))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        found[:] = 7  # the caller may change what it gets


def test_noise_falls_as_the_mean_says() -> None:
    rng, smooth = np.random.default_rng(0), Smoothing(0.8)
    scores = [rng.normal(0.5, 0.01, (1, 4, 8, 8)).astype(np.float32) for _ in range(60)]
    found = [smooth.smooth(GREY, WHOLE, one)[..., ::2, ::2] for one in scores]
    assert np.std(found[20:]) < 0.5 * np.std(scores)  # 1/3, but that large changes count at once


def bump(down: float, right: float, patches: int = 8) -> NDArray[np.float32]:
    """Scores (1,2,8,8) of a thing as wide as two patches, at a place in pixels, against the rest."""
    rows, columns = np.indices((patches, patches)) * (111 / (patches - 1))
    thing = 0.5 + 0.1 * np.exp(-((rows - down) ** 2 + (columns - right) ** 2) / (2 * 16**2))
    return np.stack([thing, np.full_like(thing, 0.55)])[np.newaxis].astype(np.float32)


def test_scores_move_with_the_picture() -> None:
    """They are nearer to the truth than a frame's own scores: the noise is smoothed, and nothing comes late."""
    rng, along, plain = np.random.default_rng(0), Smoothing(0.9), bump(30, 30)
    for step in range(8):
        truth = bump(30 + 3 * step, 30 + 7 * step)
        scores = truth + rng.normal(0, 0.01, truth.shape).astype(np.float32)
        found = along.smooth(seen(scene(), 60 - 3 * step, 60 - 7 * step), WHOLE, scores)
        plain = 0.9 * plain + 0.1 * scores
    error, own_error, late_error = (
        np.sqrt(np.mean((values - truth)[..., 3:, 3:] ** 2)) for values in (found[..., ::2, ::2], scores, plain)
    )
    assert error < 0.75 * own_error
    assert error < 0.5 * late_error


def test_where_the_picture_changed_the_new_scores_count() -> None:
    smooth, rng = Smoothing(0.9), np.random.default_rng(0)
    base = np.full((1, 2, 8, 8), 0.5, np.float32)
    first = base + rng.normal(0, 0.01, base.shape).astype(np.float32)
    smooth.smooth(seen(scene(), 60, 60), WHOLE, first)
    changed = seen(scene(), 60, 60)
    changed[:56, :56] += 128  # around, not up: no pixel stays as it was
    second = base + rng.normal(0, 0.01, base.shape).astype(np.float32)
    found = smooth.smooth(changed, WHOLE, second)[..., ::2, ::2]
    assert np.mean(np.abs(found - second)[..., :3, :3] < 1e-4) > 0.8
    np.testing.assert_allclose(found[..., 5:, 5:], (0.9 * first + 0.1 * second)[..., 5:, 5:], atol=2e-3)


def test_scores_that_change_by_more_than_their_noise_count_at_once() -> None:
    smooth, rng = Smoothing(0.9), np.random.default_rng(0)
    first, second = (np.float32(0.5) + rng.uniform(0, 0.004, (1, 2, 8, 8)).astype(np.float32) for _ in range(2))
    second[0, 1, 2, 5] = 0.6
    smooth.smooth(GREY, WHOLE, first)
    found = smooth.smooth(GREY, WHOLE, second)
    assert found[0, 1, 4, 10] == pytest.approx(0.6, abs=1e-5)
    assert np.abs(found[0, :, 8:] - 0.9 * first[0, :, 4:].mean() - 0.1 * second[0, :, 4:].mean()).max() < 0.003


def test_what_comes_into_the_picture_has_no_scores_before() -> None:
    """Not even where it looks like what was there, as a wall does."""
    frames = [GREY.copy() for _ in range(2)]
    for frame, left in zip(frames, (24, 32), strict=True):
        frame[24:88, left : left + 56] = seen(scene(), 0, 0)[:64, :56]
    smooth = Smoothing(0.9)
    smooth.smooth(frames[0], WHOLE, np.full((1, 1, 8, 8), 0.5, np.float32))
    found = smooth.smooth(frames[1], WHOLE, np.full((1, 1, 8, 8), 0.52, np.float32))[0, 0]
    np.testing.assert_allclose(found[4:-4, 0], 0.52, atol=1e-5)
    np.testing.assert_allclose(found[4:-4, 5:-5], 0.502, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (16, 16)])
def test_any_size_is_smoothed(size: tuple[int, int]) -> None:
    smooth = Smoothing(0.5)
    picture = np.zeros((*size, 3), np.uint8)
    for value in (0.2, 0.4):
        scores = np.full((1, 3, 1, 2), value, np.float32)
        found = smooth.smooth(picture, (Window(0, 0, *size),), scores)
    np.testing.assert_allclose(found, np.full((1, 3, 1, 3), 0.3), rtol=1e-6)


# Streams


def test_labels_are_made_of_the_smoothed_scores(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    images = [seen(scene() // 3 + 80, 60, 60 - 3 * step) for step in range(3)]
    frames = list(segmenter.stream(images, classes, smoothing=0.6, keep_scores=True))
    for frame in frames:
        assert frame.result.scores is not None
        np.testing.assert_array_equal(frame.result.label_map, frame.result.scores.argmax(axis=0))
    for refine in (False, True):
        kept = segmenter.stream(images, classes, smoothing=0.6, keep_scores=True, refine=refine)
        alone = segmenter.stream(images, classes, smoothing=0.6, refine=refine)
        for one, other in zip(kept, alone, strict=True):
            assert (one.result.label_map == other.result.label_map).mean() > 0.999  # but for ties
    assert frames[-1].result.scores is not None
    last = segmenter.segment(images[-1], classes, keep_scores=True).scores
    assert last is not None
    assert np.abs(frames[-1].result.scores - last).max() > 1e-4


def test_without_smoothing_nothing_changes(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    for frame, image in zip(segmenter.stream([ONE, TWO], classes, smoothing=0), [ONE, TWO], strict=True):
        np.testing.assert_array_equal(frame.result.label_map, segmenter.segment(image, classes).label_map)


def test_a_cut_begins_anew(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    for second in (255 - ONE, TWO[:64, :64]):
        *_, last = segmenter.stream([ONE, second], classes, smoothing=0.9, keep_scores=True)
        expected = segmenter.segment(second, classes, keep_scores=True)
        np.testing.assert_array_equal(last.result.scores, expected.scores)
        np.testing.assert_array_equal(last.result.label_map, expected.label_map)


def test_each_source_is_smoothed_by_itself(segmenter: Segmenter, classes: ClassEmbeddings, tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{name}.mp4", images) for name, images in (("a", [ONE, TWO]), ("b", [THREE, ONE]))]
    together = list(segmenter.stream(list(map(str, clips)), classes, smoothing=0.7))
    alone = [list(segmenter.stream(path, classes, smoothing=0.7)) for path in clips]
    for frame in together:
        expected = alone[frame.source_number][frame.index]
        np.testing.assert_array_equal(frame.result.label_map, expected.result.label_map)


def test_a_drawn_clip_flickers_less_and_keeps_its_labels(segmenter: Segmenter) -> None:
    from training.drawing.clips import ClipSettings, draw_clip
    from training.drawing.concepts import CONCEPTS

    drawn = list(draw_clip(1, 0, ClipSettings(size=(224, 224), frames=20)))
    present = np.unique([frame.labels for frame in drawn])
    classes = segmenter.encode_classes([CONCEPTS[label] for label in present])
    truth = [np.searchsorted(present, frame.labels) for frame in drawn]

    def measured(smoothing: float) -> tuple[float, float]:
        frames = segmenter.stream([frame.image for frame in drawn], classes, smoothing=smoothing)
        labels = [frame.result.label_map for frame in frames]
        still = [one == other for one, other in pairwise(truth)]
        changed = [one != other for one, other in pairwise(labels)]
        right = np.mean([one == other for one, other in zip(labels, truth, strict=True)])
        return float(np.mean([new[same].mean() for new, same in zip(changed, still, strict=True)])), float(right)

    (flicker, right), (less, still_right) = measured(0), measured(0.9)
    assert less < 0.8 * flicker
    assert still_right > right - 0.005
