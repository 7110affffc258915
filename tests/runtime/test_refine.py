"""PAMR against the released code, its definition and its properties, with every kind of inner loops that runs here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.image.reading import load_image
from t2d_runtime.masks.pamr.compiled_kernels import VERSIONS, CompiledKernels, library
from t2d_runtime.masks.pamr.kernels import Grid, Kernels
from t2d_runtime.masks.pamr.numpy_kernels import NumpyKernels
from t2d_runtime.masks.pamr.refine import CLASS_CHUNK, refine
from t2d_runtime.masks.upsample import upsample

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHED = PamrSettings(dilations=(1, 2, 4, 8, 12, 24), iterations=10)
SCORE_TOLERANCE = 1e-5

Loops = Callable[[Grid], Kernels]


def compiled_here() -> dict[str, Loops]:
    """The compiled loops for each kind of instructions that this processor has; none where they were not built."""
    try:
        fastest = library().pamr_version()
    except OSError:
        return {}  # test_compiled_kernels.py says whether that is right
    return {VERSIONS[version]: partial(CompiledKernels, version=version) for version in range(fastest + 1)}


all_kernels = pytest.mark.parametrize(
    "kernels", [NumpyKernels, *compiled_here().values()], ids=["NumPy", *compiled_here()]
)

pamr_settings = st.builds(
    PamrSettings,
    st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True).map(tuple),
    st.integers(0, 3),
)


@st.composite
def images_and_planes(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    classes, height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 256]))  # constant, black and white, noise
    image = rng.integers(0, levels, (height, width, 3)) * (255 // max(levels - 1, 1))
    return image.astype(np.uint8), rng.random((classes, height, width), np.float32)


@all_kernels
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", ["vitb14_reg4_448_astronaut", "vits14_448_coffee"])
def test_masks_and_labels_equal_the_released_code(name: str, background: bool, kernels: Loops) -> None:
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden: dict[str, Any] = dict(file)
    key = f"mask_bg{background:d}_pamr1"
    image = load_image(GOLDEN / f"{'astronaut' if 'astronaut' in name else 'coffee'}_resized.webp")[:, :448]
    planes = upsample(golden["scores_cleaned" if background else "scores"], (448, 448), align_corners=True)
    refined = refine(image, planes, PUBLISHED, kernels=kernels)
    np.testing.assert_allclose(refined[:, ::12, ::12], golden[key], rtol=0, atol=SCORE_TOLERANCE)
    if background:
        threshold = json.loads(str(golden["meta"]))["background_threshold"]
        refined = np.concatenate([np.full((1, 448, 448), threshold, np.float32), refined])
    wrong = refined.argmax(axis=0) != golden[f"{key}_labels"]
    assert not wrong[golden[f"{key}_certain"]].any()


def by_definition(image: Any, plane: Any, pamr: PamrSettings) -> Any:
    """One pixel and neighbour at a time."""
    height, width = plane.shape
    result = plane.astype(float)
    for _ in range(pamr.iterations):
        before = result.copy()
        for y, x in np.ndindex(height, width):
            places, samples = [], []
            for d in pamr.dilations:
                for down, right in np.ndindex(3, 3):
                    place = np.clip(y + d * (down - 1), 0, height - 1), np.clip(x + d * (right - 1), 0, width - 1)
                    samples.append(image[place].astype(float))
                    if (down, right) != (1, 1):
                        places.append(place)
            deviation = np.std(samples, axis=0, ddof=1)
            weights = []
            for place in places:
                distance = np.abs(image[y, x].astype(float) - image[place]) / (1e-8 + 0.1 * deviation)
                weights.append(exp(-distance.mean()))
            result[y, x] = sum(w * before[p] for w, p in zip(weights, places, strict=True)) / sum(weights)
    return result


@all_kernels
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (6, 11)])
def test_the_definition(shape: tuple[int, int], kernels: Loops) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    planes = rng.random((2, *shape), np.float32)
    pamr = PamrSettings(dilations=(1, 3), iterations=2)
    refined = refine(image, planes, pamr, kernels=kernels)
    assert refined.dtype == np.float32
    for plane, own in zip(planes, refined, strict=True):
        np.testing.assert_allclose(own, by_definition(image, plane, pamr), rtol=0, atol=1e-6)


@all_kernels
@given(images_and_planes(), pamr_settings)
@settings(deadline=None, max_examples=50)
def test_all_loops_give_what_numpy_s_give(
    kernels: Loops, inputs: tuple[NDArray[np.uint8], NDArray[np.float32]], pamr: PamrSettings
) -> None:
    plain, found = (refine(*inputs, pamr, kernels=loops) for loops in (NumpyKernels, kernels))
    np.testing.assert_allclose(found, plain, rtol=0, atol=2e-6)


@all_kernels
@pytest.mark.parametrize("count", [1, 7, 16])
def test_the_number_of_threads_changes_no_bit(count: int, kernels: Loops) -> None:
    """Nor does the height of the bands, which follows from it."""
    rng = np.random.default_rng(0)
    image, planes = rng.integers(0, 256, (67, 45, 3), np.uint8), rng.random((count, 67, 45), np.float32)
    first, *others = (refine(image, planes, PUBLISHED, num_threads=n, kernels=kernels) for n in (1, 2, 3, 20))
    for other in others:
        np.testing.assert_array_equal(other, first)


@all_kernels
@given(images_and_planes(), pamr_settings)
@settings(deadline=None, max_examples=50)
def test_values_stay_within_each_plane_which_is_refined_alone(
    kernels: Loops, inputs: tuple[NDArray[np.uint8], NDArray[np.float32]], pamr: PamrSettings
) -> None:
    image, planes = inputs
    refined = refine(image, planes, pamr, kernels=kernels)
    assert refined.shape == planes.shape
    for plane, own in zip(planes, refined, strict=True):
        np.testing.assert_array_equal(refine(image, plane[np.newaxis], pamr, kernels=kernels)[0], own)
        assert plane.min() - 1e-6 <= own.min()
        assert own.max() <= plane.max() + 1e-6


@all_kernels
def test_colours_hold_the_scores_back(kernels: Loops) -> None:
    """Two flat halves: neighbours of the other colour have no weight, those of the same colour all of it."""
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 20:] = 255
    planes = np.random.default_rng(0).random((1, 20, 40), np.float32)
    planes[:, :, 20:] += 2
    refined = refine(image, planes, PUBLISHED, kernels=kernels)
    assert refined[:, :, :20].max() < 1
    assert refined[:, :, 20:].min() > 2
    assert refined[:, :, :20].std() < planes[:, :, :20].std() / 4


def test_many_classes_are_refined_in_chunks() -> None:
    rng = np.random.default_rng(0)
    image, planes = rng.integers(0, 256, (6, 7, 3), np.uint8), rng.random((CLASS_CHUNK + 3, 6, 7), np.float32)
    refined = refine(image, planes, PUBLISHED)
    for plane, own in zip(planes, refined, strict=True):
        np.testing.assert_array_equal(refine(image, plane[np.newaxis], PUBLISHED)[0], own)
    assert refine(image, planes[:0], PUBLISHED).shape == (0, 6, 7)


@all_kernels
def test_arguments_are_left_alone(kernels: Loops) -> None:
    rng = np.random.default_rng(0)
    image, planes = rng.integers(0, 256, (9, 9, 3), np.uint8), rng.random((2, 9, 9), np.float32)
    image.flags.writeable = planes.flags.writeable = False
    refined = refine(image, planes, PUBLISHED, kernels=kernels)
    assert not np.shares_memory(refined, planes)
    np.testing.assert_array_equal(refine(image, planes, PamrSettings((1,), 0), kernels=kernels), planes)
