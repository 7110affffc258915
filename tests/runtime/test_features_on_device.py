"""Features that stay in a device's memory, from the engine to the labels; the device is the CPU. No GPU is proved."""

from __future__ import annotations

import ctypes
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.backends import onnxruntime as onnxruntime_backend
from t2d_runtime.backends import onnxruntime_session
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeGpuEngine
from t2d_runtime.errors import BackendError, SelfTestError
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.features import DeviceFeatures, HostFeatures
from t2d_runtime.masks.cuda.postprocess import DeviceMasks
from tests.runtime.cuda_on_cpu import CpuDevice, HostCuda
from tests.runtime.test_device_masks import SETTINGS, encoding_of, words

ENGINE = "an engine in fp32"


@dataclass
class Part:
    """An array that counts the times that it is copied to the host."""

    values: NDArray[np.float32]
    copied: int = 0

    @property
    def address(self) -> int:
        return int(self.values.ctypes.data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def to_host(self) -> NDArray[np.float32]:
        self.copied += 1
        return self.values.copy()


def parts_of(values: NDArray[np.float32], lengths: Sequence[int]) -> list[Part]:
    """Rows in parts of these lengths, each in memory of its own."""
    return [Part(np.array(rows)) for rows in np.split(values, np.cumsum(lengths)[:-1])]


def on_device(encoding: ImageEncoding, device: CpuDevice | None = None) -> tuple[ImageEncoding, list[Part]]:
    """The same encoding with its features in the device's memory: the first window alone, then the rest."""
    W, h, w, D = encoding.patch_tokens.shape
    lengths = [1, W - 1] if W > 1 else [1]
    tokens = parts_of(encoding.patch_tokens.reshape(W, h * w, D), lengths)
    attention = parts_of(encoding.cls_attention.reshape(W, -1, h * w), lengths)
    parts = [*tokens, *attention]
    if device is not None:
        device.foreign = {part.address: part.values.nbytes for part in parts}
    return replace(encoding, features=DeviceFeatures(W, tokens, attention, (h, w), ENGINE)), parts


@pytest.mark.parametrize("cleaning", [None, "official", "paper"])
def test_labels_and_scores_are_those_of_features_that_come_from_the_host(library: Path | None, cleaning: Any) -> None:
    device, settings = CpuDevice(library), replace(SETTINGS, cleaning=cleaning)
    masks = DeviceMasks(device)
    if device.without_compiler:
        return
    for seed in (1, 2):
        encoding = encoding_of((61, 83), (40, 55), seed=seed)
        left, parts = on_device(encoding, device)
        expected, found = (
            masks.label_map_of(one, words(5), settings, keep_scores=True, keep_confidence=True)
            for one in (encoding, left)
        )
        for host, there in zip(expected, found, strict=True):
            np.testing.assert_array_equal(there, host)
        assert not any(part.copied for part in parts)
    assert len(device.recordings) == 2, "one plan for each place"


@pytest.mark.parametrize(("name", "cleaning"), [("tokens", None), ("attention", "official"), ("attention", None)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_an_error_where_it_is_used(
    library: Path | None, name: str, cleaning: Any, value: float
) -> None:
    device = CpuDevice(library)
    masks, (left, parts) = DeviceMasks(device), on_device(encoding_of((40, 55), (40, 55)), device)
    if device.without_compiler:
        return
    parts[-1 if name == "attention" else 1].values[-1, -1, -1] = value
    settings = replace(SETTINGS, cleaning=cleaning)
    if name == "attention" and cleaning is None:
        masks.label_map_of(left, words(3), settings, keep_scores=False)
    else:
        with pytest.raises(
            BackendError, match="an unknown engine in fp32: patch_tokens or cls_attention holds values that are not"
        ):
            masks.label_map_of(left, words(3), settings, keep_scores=False)
    read = "cls_attention" if name == "attention" else "patch_tokens"
    with pytest.raises(BackendError, match=f"{ENGINE}: {read} holds values that are not finite; see 't2d selftest'"):
        getattr(left, read)


def test_what_is_read_is_copied_once_and_pickled_as_arrays_of_the_host() -> None:
    encoding = encoding_of((61, 83), (40, 55))
    left, parts = on_device(encoding)
    assert repr(left) == repr(encoding)
    assert (
        left.nbytes
        == encoding.nbytes
        == sum(
            array.nbytes for array in (encoding.image, encoding.resized, encoding.patch_tokens, encoding.cls_attention)
        )
    )
    assert not any(part.copied for part in parts)
    again = pickle.loads(pickle.dumps(left))
    assert isinstance(again.features, HostFeatures)
    for one in (left, again):
        np.testing.assert_array_equal(one.patch_tokens, encoding.patch_tokens)
        np.testing.assert_array_equal(one.cls_attention, encoding.cls_attention)
        assert not one.patch_tokens.flags.writeable
        assert not one.cls_attention.flags.writeable
    assert [part.copied for part in parts] == [1] * len(parts)


@pytest.mark.parametrize(
    ("tokens", "attention", "wrong"),
    [
        (
            [(2, 36, 19)],
            [(2, 3, 35)],
            r"patch_tokens have the shapes \[\(2, 36, 19\)\], expected 2 windows together, 35 patches along",
        ),
        ([(1, 35, 19)], [(2, 3, 35)], "patch_tokens have"),
        ([(2,)], [(2, 3, 35)], "patch_tokens have"),
        ([(1, 35, 19), (1, 35, 18)], [(2, 3, 35)], "patch_tokens have"),
        ([(2, 35, 19)], [(1, 3, 35), (1, 4, 35)], "cls_attention have"),
        ([(2, 35, 19)], [(2, 3, 5, 7)], "cls_attention have"),
        ([(2, 35, 19)], [(2, 3, 35), (1, 3, 35)], "cls_attention have"),
    ],
)
def test_parts_of_other_shapes_are_refused_before_memory_is_copied(
    tokens: list[tuple[int, ...]], attention: list[tuple[int, ...]], wrong: str
) -> None:
    parts = ([Part(np.zeros(shape, np.float32)) for shape in shapes] for shapes in (tokens, attention))
    with pytest.raises(BackendError, match=f"{ENGINE}: {wrong}"):
        DeviceFeatures(2, *parts, (5, 7), ENGINE)


class LeavingEngine(OnnxRuntimeGpuEngine):
    """ONNX Runtime's outputs stay in its own memory, of the CPU here."""

    memory_name = "cpu"


@pytest.fixture
def leaving(library: Path | None, monkeypatch: pytest.MonkeyPatch) -> CpuDevice:
    """ONNX Runtime and the masks as on a GPU."""
    device = CpuDevice(library)
    device.identity = ("CPU that keeps features",)
    monkeypatch.setattr(DeviceMasks, "open", classmethod(lambda cls: cls(device)))
    monkeypatch.setattr(onnxruntime_backend, "OnnxRuntimeEngine", LeavingEngine)
    cuda = HostCuda()
    device.foreign = cuda.sizes
    monkeypatch.setattr(onnxruntime_session, "Cuda", lambda: cuda)
    return device


def test_a_segmenter_leaves_features_where_they_are(
    leaving: CpuDevice, exported_bundle: Path, segmenter: Segmenter, classes: ClassEmbeddings
) -> None:
    if leaving.without_compiler:
        return
    image = np.random.default_rng(3).integers(0, 256, (70, 190, 3), np.uint8)
    given = segmenter.encode_image(image)
    with Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device") as opened:
        encoding = opened.encode_image(image)
        assert isinstance(given.features, HostFeatures)
        assert isinstance(encoding.features, DeviceFeatures)
        assert encoding.features.sizes == given.features.sizes
        plain = opened.segment(given, classes, background=True, refine=True)
        for asked in (image, encoding):
            found = opened.segment(asked, classes, background=True, refine=True)
            np.testing.assert_array_equal(found.label_map, plain.label_map)
        assert "patch_tokens" not in vars(encoding.features), "nothing was copied to the host"
        on_host = segmenter.segment(encoding, classes, background=True, refine=True)  # by a Segmenter without a device
        assert (on_host.label_map == found.label_map).mean() > 0.999
        planes = np.stack(list(opened.score_planes(encoding, classes)))
    np.testing.assert_array_equal(encoding.patch_tokens, given.patch_tokens)
    expected = segmenter.segment(given, classes, keep_scores=True).scores
    assert expected is not None
    np.testing.assert_allclose(planes, expected, atol=1e-6)
    assert leaving.foreign, "the encoding's own memory"
    del encoding, asked
    assert not leaving.foreign


def test_features_that_arrive_otherwise_are_refused_at_the_opening(
    leaving: CpuDevice, exported_bundle: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    if leaving.without_compiler:
        return
    with monkeypatch.context() as broken:
        broken.setattr(leaving, "copy", lambda address, source, nbytes: ctypes.memset(address, 0, nbytes))
        with pytest.raises(
            SelfTestError, match=r"left on CPU that keeps features does not give what it gives the host: scores of them"
        ):
            Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device")
    assert leaving.closed, "nothing stays taken"
    for expected in (True, False):  # the failure was not remembered, the pass is
        leaving.closed, recorded = False, len(leaving.recordings)
        Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device").close()
        assert (len(leaving.recordings) > recorded) is expected
    leaving.closed, recorded = False, len(leaving.recordings)
    monkeypatch.setattr(OnnxRuntimeBackend, "digests", lambda *given: ("another file",))
    Segmenter.open(exported_bundle, backend="onnxruntime", postprocess="device").close()
    assert len(leaving.recordings) > recorded, "an engine of other files proves itself"
