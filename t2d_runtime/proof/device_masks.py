"""Proof of the masks that a GPU computes: the bundle's stored features to scores and labels, on this machine.

The features are the reference's, so a difference is the post-processing's alone, whatever engine encodes images here.
Features that an engine leaves on the GPU are then compared with those that it gives to the host.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from t2d_runtime import __version__
from t2d_runtime.bundle.files import SELFTEST, Bundle
from t2d_runtime.bundle.manifest import StageParity
from t2d_runtime.encoders import Encoders
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.features import HostFeatures
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.windows import resized_size, size_of, window_boxes
from t2d_runtime.masks.cuda.postprocess import DeviceMasks
from t2d_runtime.masks.postprocess import Labelling
from t2d_runtime.proof.parity import Judge, compare_values
from t2d_runtime.proof.selftest import PLANE_STEP, SelfTestVectors, require_parity
from t2d_runtime.proof.verdicts import proof_key
from t2d_runtime.results.options import resolve_options
from t2d_runtime.storage.cache import digest_of, recall, remember

logger = logging.getLogger(__name__)

VERDICTS = "device-masks"
FEATURE_VERDICTS = "device-features"


def require_proven_masks(bundle: Bundle, masks: DeviceMasks) -> None:
    """Run the stages below unless they passed with this device, driver and kernels before.

    Raises SelfTestError, which names the stage, where the masks are not the reference's. Failures are not remembered.
    """
    key = digest_of(__version__, bundle.manifest.digest, masks.identity)
    if recall(VERDICTS, key) is not None:
        return
    logger.info("self-test of masks on %s, the first on this machine", masks.identity[0])
    require_parity(tuple(mask_stages(bundle, masks)), f"post-processing on {masks.identity[0]}")
    remember(VERDICTS, key, {"device": list(masks.identity)})


def require_proven_features(encoders: Encoders, masks: DeviceMasks) -> None:
    """Run `feature_stages` unless there are none, or they passed with this engine, precision and device before.

    Raises SelfTestError, which names the stage, where they differ. Failures are not remembered.
    """
    if not encoders.has_device_outputs:
        return
    engine = proof_key(encoders.bundle, encoders.backend, encoders.precision)
    key = digest_of(engine, masks.identity)
    if recall(FEATURE_VERDICTS, key) is not None:
        return
    subject = f"{encoders} with features left on {masks.identity[0]}"
    require_parity(tuple(feature_stages(encoders, masks)), subject, "what it gives the host")
    remember(FEATURE_VERDICTS, key, {"engine": str(encoders.backend.identity), "precision": encoders.precision})


def feature_stages(encoders: Encoders, masks: DeviceMasks) -> Iterator[StageParity]:
    """Features that the engine leaves on the GPU, against those that it gives the host; and the scores of both.

    There are no stages where the engine cannot leave any there.
    """
    if not encoders.has_device_outputs:
        return
    vectors = SelfTestVectors.load(encoders.bundle.file(SELFTEST))
    settings = resolve_options(
        {"background": True}, encoders.manifest.defaults, window="slide", backend="", precision="fp32"
    )

    def scores(encoding: ImageEncoding) -> NDArray[np.float32]:
        return _scores_of(masks.label_map_of(encoding, vectors.text_embeds, settings, keep_scores=True))

    # Labelled at once, before anything else could give the engine time to end, and while the first picture's memory is
    # in use: memory that is read too early, or given out twice, shows in the scores.
    pictures = (vectors.image, np.ascontiguousarray(vectors.image[:, ::-1]))
    left, found = [], []
    for picture in pictures:
        left.append(encoders.encode_image(picture, on_device=True))
        found.append(scores(left[-1]))
    given, judge = [encoders.encode_image(picture) for picture in pictures], Judge.of(encoders.precision)
    for name in ("patch_tokens", "cls_attention"):
        expected, got = (np.concatenate([getattr(one, name) for one in encodings]) for encodings in (given, left))
        yield judge.features(f"{name} left there", expected, got)
    copied = [replace(one, features=HostFeatures(one.patch_tokens, one.cls_attention)) for one in left]
    # The same kernels on the same numbers.
    expected, got = np.stack([scores(one) for one in copied]), np.stack(found)
    yield compare_values("scores of them", expected, got, tolerance=0.0, relative=False)


def mask_stages(bundle: Bundle, masks: DeviceMasks) -> Iterator[StageParity]:
    """Scores of the first window without and with PAMR; scores and labels of the whole image; by float32's gates."""
    vectors = SelfTestVectors.load(bundle.file(SELFTEST))
    settings = resolve_options(
        {"background": True, "refine": True}, bundle.manifest.defaults, window="slide", backend="", precision="fp32"
    )
    judge, whole = Judge.of("fp32"), encoding_of(vectors, bundle)
    first = whole.windows[0]
    crop = np.ascontiguousarray(whole.resized[first.region])
    window = replace(
        whole,
        image=crop,
        resized=crop,
        windows=(first._replace(top=0, left=0),),
        features=HostFeatures(whole.patch_tokens[:1], whole.cls_attention[:1]),
    )
    for stage, encoding, refine, expected in (
        ("upsampled", window, None, vectors.upsampled),
        ("refined", window, settings.refine, vectors.refined),
        ("stitched", whole, settings.refine, vectors.stitched),
    ):
        found = masks.label_map_of(encoding, vectors.text_embeds, replace(settings, refine=refine), keep_scores=True)
        yield judge.scores(stage, expected, _scores_of(found)[:, ::PLANE_STEP, ::PLANE_STEP])
    yield judge.labels("label_map", vectors.label_map, found.label_map, vectors.label_margin)


def encoding_of(vectors: SelfTestVectors, bundle: Bundle) -> ImageEncoding:
    """The self-test's image with the features that the reference gave."""
    settings = bundle.manifest.windows
    resized = resize(vectors.image, resized_size(size_of(vectors.image), settings))
    return ImageEncoding(
        image=vectors.image,
        resized=resized,
        windows=window_boxes(size_of(resized), settings),
        features=HostFeatures(vectors.patch_tokens, vectors.cls_attention),
        window_mode="slide",
        model_digest=bundle.model_digest,
        backend="",
        precision="fp32",
    )


def _scores_of(found: Labelling) -> NDArray[np.float32]:
    """The scores, which were asked for."""
    return np.zeros((0, 0, 0), np.float32) if found.scores is None else found.scores
