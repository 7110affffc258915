"""Labels of an encoded image computed on a device, behind the interface of `masks.postprocess.label_map_of`."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.cuda import Cuda
from t2d_runtime.errors import ClosedError, OptionError
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.features import DeviceFeatures, not_finite
from t2d_runtime.image.windows import size_of
from t2d_runtime.masks.cuda.device import CudaDevice, Device
from t2d_runtime.masks.cuda.plan import Inputs, Plan, Shapes
from t2d_runtime.masks.postprocess import Labelling, ScoreFilter, competition, confidence_of
from t2d_runtime.results.options import SegmentationSettings

PLANS = 4
"""Plans kept, for as many sizes of pictures or numbers of classes in turn. Each holds its memory on the device."""

HOST_ALONE = "scores are smoothed over time on the host alone; open with postprocess='host', or leave smoothing out"
"""The reason why a device takes no score filter."""


class DeviceMasks:
    """Scores, cleaning, upsampling, PAMR and labels on a device. Safe to call from several threads."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._closed = False
        self._plans: OrderedDict[Shapes, Plan] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls) -> DeviceMasks:
        """Open GPU 0. Raises BackendUnavailableError without GPU, driver, cuda-python or NVRTC; BackendError."""
        return cls(CudaDevice(Cuda()))

    @property
    def identity(self) -> tuple[str, ...]:
        """Everything besides the inputs that decides the results."""
        return self._device.identity

    def close(self) -> None:
        """Free the memory on the device, once a call that uses it has ended. A second close does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.forget_sizes()
        self._device.close()

    def forget_sizes(self) -> None:
        """Free the memory for the pictures seen so far. The next picture of a size takes it again."""
        with self._lock:
            while self._plans:
                self._plans.popitem()[1].close()

    def label_map_of(
        self,
        encoding: ImageEncoding,
        text_embeds: NDArray[np.float32],
        settings: SegmentationSettings,
        *,
        thresholds: NDArray[np.float32] | None = None,
        keep_scores: bool,
        keep_confidence: bool = False,
        score_filter: ScoreFilter | None = None,
        num_threads: int | None = None,
    ) -> Labelling:
        """Labels, scores and confidence as the host's `label_map_of` gives them; `num_threads` concerns the host alone.

        Raises OptionError for a score filter, which works on the host's arrays, and BackendError where the device
        fails, its memory is too small, or a feature is not finite.
        """
        if score_filter is not None:
            raise OptionError(HOST_ALONE)
        threshold, offsets = competition(settings, thresholds)
        features = encoding.features
        shapes = Shapes(
            windows=encoding.windows,
            features=features.sizes,
            on_device=isinstance(features, DeviceFeatures),
            classes=len(text_embeds),
            resized_size=size_of(encoding.resized),
            size=size_of(encoding.image),
            threshold=threshold,
            offsets=offsets is not None,
            cleaning=settings.cleaning,
            cleaning_weight=settings.cleaning_weight if settings.cleaning is not None else 0.0,
            refine=settings.refine,
            keep_scores=keep_scores,
            keep_confidence=keep_confidence,
        )
        inputs = Inputs(features, text_embeds, encoding.resized, offsets)
        with self._lock:
            if self._closed:
                raise ClosedError("the device's masks were closed; open the bundle again")
            found = self._plan(shapes).run(inputs)
        if not found.finite:
            engine = f"{encoding.engine or encoding.backend or 'an unknown engine'} in {encoding.precision}"
            raise not_finite("patch_tokens or cls_attention", engine)
        confidence = confidence_of(found.best, found.labels, settings, thresholds)
        return Labelling(found.labels, found.scores, confidence)

    def _plan(self, shapes: Shapes) -> Plan:
        if shapes not in self._plans:
            while len(self._plans) >= PLANS:
                self._plans.popitem(last=False)[1].close()
            self._plans[shapes] = Plan(self._device, shapes)
        self._plans.move_to_end(shapes)
        return self._plans[shapes]
