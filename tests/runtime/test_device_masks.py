"""Masks on a device: its kernels run on the CPU, against the masks in NumPy and C. No GPU is needed; none is proved."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bundle.manifest import PamrSettings, WindowSettings
from t2d_runtime.cli import main
from t2d_runtime.device import cuda
from t2d_runtime.errors import BackendError, BackendUnavailableError, ClosedError, OptionError, SelfTestError
from t2d_runtime.frame_stages import FrameStages
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.features import HostFeatures
from t2d_runtime.image.windows import window_boxes
from t2d_runtime.masks.cuda.device import SOURCE
from t2d_runtime.masks.cuda.plan import CLASSES, THREADS, TILE
from t2d_runtime.masks.cuda.postprocess import PLANS, DeviceMasks
from t2d_runtime.masks.pamr.kernels import STD_EPS, STD_WEIGHT
from t2d_runtime.masks.postprocess import label_map_of
from t2d_runtime.masks.similarity import NORM_EPS
from t2d_runtime.results.options import SegmentationSettings
from tests.runtime.cuda_on_cpu import CpuDevice, kernels

TOLERANCE = 2e-6
"""For scores of 0 to 1: float32 sums in another order, and the compiler's own exponential."""

SETTINGS = SegmentationSettings(True, "official", 0.55, 0.2, PamrSettings((1, 3, 7), 3), "slide", "", "fp32")
PUBLISHED = PamrSettings((1, 2, 4, 8, 12, 24), 10)


def encoding_of(
    size: tuple[int, int], resized: tuple[int, int], crop: tuple[int, int] = (31, 29), seed: int = 0
) -> ImageEncoding:
    """Random features of 5 x 7 patches, 19 wide, of 3 heads; sizes are multiples of nothing."""
    rng = np.random.default_rng(seed)
    windows = window_boxes(resized, WindowSettings(resized[0], 4096, crop, (crop[0] // 2, crop[1] // 2)))
    tokens = rng.normal(0, 1, (len(windows), 5, 7, 19)).astype(np.float32)
    attention = rng.normal(0, 3, (len(windows), 3, 5, 7)).astype(np.float32)
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in (size, resized)]
    return ImageEncoding(images[0], images[1], windows, HostFeatures(tokens, attention), "slide", "", "", "fp32")


def words(count: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(count).normal(0, 1, (count, 19)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def check(device: CpuDevice, encoding: ImageEncoding, count: int, settings: SegmentationSettings, **how: Any) -> None:
    """Labels and scores on the device are those of the host; labels where its two best scores differ."""
    masks, texts = DeviceMasks(device), words(count)
    if device.without_compiler:
        with pytest.raises(AssertionError, match="no compiler"):
            masks.label_map_of(encoding, texts, settings, keep_scores=True, **how)
        return
    kept = {"keep_scores": True, "keep_confidence": True}
    expected, scores, confidence = label_map_of(encoding, texts, settings, **kept, **how)
    labels, of_device, sure = masks.label_map_of(encoding, texts, settings, **kept, **how)
    assert labels.dtype == expected.dtype
    np.testing.assert_allclose(of_device, scores, rtol=0, atol=TOLERANCE)
    assert scores is not None
    compared = scores
    thresholds = how.get("thresholds")
    if thresholds is not None:
        compared = scores - thresholds[:, None, None]
    if settings.background:
        limit = 0.0 if thresholds is not None else settings.threshold
        compared = np.concatenate([np.full((1, *labels.shape), limit, np.float32), compared])
    ranked = np.sort(compared, axis=0)
    firm = np.ones(labels.shape, bool) if len(ranked) == 1 else ranked[-1] - ranked[-2] > 2 * TOLERANCE
    assert firm.mean() > 0.99
    assert (labels == expected)[firm].all()
    assert sure is not None
    assert confidence is not None
    np.testing.assert_allclose(sure[firm], confidence[firm], rtol=0, atol=TOLERANCE)
    plain, _, _ = masks.label_map_of(encoding, texts, settings, keep_scores=False, **how)
    assert (plain == expected)[firm].all()


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("cleaning", [None, "official", "paper"])
@pytest.mark.parametrize("refine", [None, SETTINGS.refine])
def test_every_way_of_segmenting(library: Path | None, background: bool, cleaning: Any, refine: Any) -> None:
    settings = replace(SETTINGS, background=background, cleaning=cleaning, refine=refine)
    check(CpuDevice(library), encoding_of((61, 83), (40, 55)), 5, settings)


@pytest.mark.parametrize(
    ("size", "resized", "crop", "count", "refine"),
    [
        ((40, 55), (40, 55), (31, 29), 2, PUBLISHED),  # not resized afterwards
        ((17, 23), (53, 67), (53, 67), 35, SETTINGS.refine),  # one window, two groups of classes, made smaller
        ((90, 1), (31, 1), (31, 29), 3, PamrSettings((40,), 2)),  # a single column, neighbours far outside
        ((1, 1), (1, 1), (31, 29), 1, SETTINGS.refine),
        ((9, 8), (33, 31), (31, 29), 257, None),  # labels of two bytes
    ],
)
def test_sizes(
    library: Path | None,
    size: tuple[int, int],
    resized: tuple[int, int],
    crop: tuple[int, int],
    count: int,
    refine: PamrSettings | None,
) -> None:
    settings = replace(SETTINGS, cleaning=None, refine=refine)
    check(CpuDevice(library), encoding_of(size, resized, crop), count, settings)


@pytest.mark.parametrize("refine", [None, SETTINGS.refine])
def test_thresholds_of_classes(library: Path | None, refine: PamrSettings | None) -> None:
    thresholds = np.random.default_rng(1).uniform(0.5, 0.6, 34).astype(np.float32)
    settings = replace(SETTINGS, cleaning=None, refine=refine)
    check(CpuDevice(library), encoding_of((61, 83), (40, 55)), 34, settings, thresholds=thresholds)


def test_other_inputs_of_the_same_shape_take_the_same_plan_and_plans_are_freed(library: Path | None) -> None:
    device = CpuDevice(library)
    masks, settings = DeviceMasks(device), replace(SETTINGS, cleaning=None)
    if device.without_compiler:
        return
    for seed in (1, 2, 1):
        encoding = encoding_of((40, 55), (40, 55), seed=seed)
        expected, _, _ = label_map_of(encoding, words(4), settings, keep_scores=False)
        labels, _, _ = masks.label_map_of(encoding, words(4), settings, keep_scores=False)
        assert (labels == expected).all()
    assert len(device.recordings) == 1
    held = len(device.memory), len(device.pinned)
    for count in range(5, 6 + PLANS):  # one more than there is room for beside the first
        masks.label_map_of(encoding, words(count), settings, keep_scores=False)
    assert [recording.closed for recording in device.recordings] == [True] * 2 + [False] * PLANS
    assert (len(device.memory), len(device.pinned)) == (PLANS * held[0], PLANS * held[1])


def test_too_little_memory_is_an_error_and_leaves_none_taken(library: Path | None) -> None:
    device = CpuDevice(library, capacity=200_000)
    with pytest.raises(BackendError, match="cudaErrorMemoryAllocation"):
        DeviceMasks(device).label_map_of(encoding_of((61, 83), (40, 55)), words(5), SETTINGS, keep_scores=False)
    assert not device.memory
    assert not device.pinned


def test_constants_are_those_of_the_host() -> None:
    defined = dict(re.findall(r"^#define (\w+) ([\d.e+-]+)f?\b", SOURCE.read_text(), re.MULTILINE))
    wanted = {"TILE": TILE, "THREADS": THREADS, "CLASSES": CLASSES}
    wanted |= {"NORM_EPS": NORM_EPS, "STD_EPS": STD_EPS, "STD_WEIGHT": STD_WEIGHT}
    assert {name: float(defined[name]) for name in wanted} == wanted
    assert len(kernels()) == SOURCE.read_text().count("__global__")


@pytest.fixture
def on_device(library: Path | None, monkeypatch: pytest.MonkeyPatch) -> CpuDevice:
    """`postprocess="device"` opens this device in place of a GPU."""
    device = CpuDevice(library)
    monkeypatch.setattr(DeviceMasks, "open", classmethod(lambda cls: cls(device)))
    return device


def test_a_segmenter_with_masks_on_the_device(
    on_device: CpuDevice, exported_bundle: Path, segmenter: Segmenter, classes: ClassEmbeddings
) -> None:
    if on_device.without_compiler:
        return
    opened = Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device")
    assert (segmenter.postprocess, opened.postprocess) == ("host", "device")
    image = np.random.default_rng(3).integers(0, 256, (70, 90, 3), np.uint8)
    named = segmenter.encode_classes({"plant": ["grass", "tree"], "sky": ["sky"]}, negatives=["road"])
    for words_ in (classes, named):
        expected, got = (one.segment(image, words_, background=True, refine=True) for one in (segmenter, opened))
        assert got.class_names == expected.class_names
        assert (got.label_map == expected.label_map).mean() > 0.999
        assert got.settings == expected.settings
    again = pickle.loads(pickle.dumps(opened))
    assert again.postprocess == "device"
    # The verdict of the first opening was kept, so the second and third ran no self-test: one plan for each image.
    recorded = len(on_device.recordings)
    Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device")
    assert len(on_device.recordings) == recorded


def test_masks_that_are_not_the_references_are_refused(
    on_device: CpuDevice, exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_device.without_compiler:
        return
    on_device.identity = ("CPU, wrong",)
    launch = on_device.launch

    def without_last_iteration(kernel: str, *how: Any) -> None:
        if kernel == "spread" and len([1 for one in on_device._recording or () if one[0] == "spread"]) == 9:
            return
        launch(kernel, *how)

    monkeypatch.setattr(on_device, "launch", without_last_iteration)
    with pytest.raises(SelfTestError, match=r"post-processing on CPU, wrong does not give .*: refined"):
        Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device")


def test_errors(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"postprocess is 'gpu', expected one of \['host', 'device'\]"):
        Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="gpu")  # type: ignore[arg-type]
    monkeypatch.setattr(cuda, "importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(BackendUnavailableError, match="cuda-python is not installed; 'pip install cuda-python'"):
        Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device")


def test_smoothing_over_time_is_the_hosts_alone(library: Path | None) -> None:
    masks, encoding = DeviceMasks(CpuDevice(library)), encoding_of((40, 55), (40, 55))
    with pytest.raises(OptionError, match=r"smoothed over time on the host alone; open with postprocess='host'"):
        masks.label_map_of(encoding, words(2), SETTINGS, keep_scores=False, score_filter=lambda scores: scores)


def test_the_whole_selftest_on_the_device(
    on_device: CpuDevice, exported_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if on_device.without_compiler:
        return
    there = ["--backend", "onnxruntime", "--threads", "1", "--postprocess", "device"]
    assert main(["selftest", str(exported_bundle), *there, "--json"]) == 0
    (test,) = json.loads(capsys.readouterr().out)["tests"]
    assert test["device"] == "CPU"
    assert [stage["stage"] for stage in test["stages"]][-4:] == ["upsampled", "refined", "stitched", "label_map"]


def test_a_stream_that_smooths_is_refused_at_once(on_device: CpuDevice, segmenter: Segmenter) -> None:
    opened = Segmenter(segmenter.encoders, DeviceMasks(on_device))
    with pytest.raises(OptionError, match="smoothed over time on the host alone"):
        opened.stream([np.zeros((40, 60, 3), np.uint8)] * 2, ["sky"], smoothing=0.5)


def test_closing_gives_the_devices_memory_back(on_device: CpuDevice, exported_bundle: Path) -> None:
    if on_device.without_compiler:
        return
    with Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device") as segmenter:
        classes = segmenter.encode_classes(["sky", "grass"])
        segmenter.segment(np.zeros((40, 60, 3), np.uint8), classes, refine=True)
        stages = FrameStages(segmenter, classes, segmenter.check_options(classes), {})
        encoding = segmenter.encode_image(np.zeros((40, 60, 3), np.uint8))
        assert on_device.memory
    assert on_device.closed
    assert not on_device.memory
    assert not on_device.pinned
    segmenter.close()
    with pytest.raises(ClosedError, match="were closed; open the bundle again"):
        stages.label(encoding, None)


def missing(name: str) -> None:
    raise ImportError(f"No module named {name!r}")
