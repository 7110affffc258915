"""Subjects of the comparison: the PyTorch reference and an exported bundle, with one interface of arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2d_export.model import reference_masks
from t2d_export.model.reference import Reference
from t2d_runtime.bundle.manifest import Preprocessing
from t2d_runtime.image.preprocess import to_pixel_values
from t2d_runtime.masks.cleaning import clean_scores
from t2d_runtime.masks.pamr.refine import refine
from t2d_runtime.masks.similarity import cosine_similarity, scores_of
from t2d_runtime.masks.upsample import upsample
from t2d_runtime.proof.parity import GATES, PrecisionGates
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.vocabulary import ClassEmbeddings

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Pixels = NDArray[np.uint8]


class Encoded(NamedTuple):
    """Outputs of the image encoder for W windows, or for one window without the first axis."""

    pixel_values: Floats
    """(W,3,H,W) normalised, at the input size."""
    patch_tokens: Floats
    """(W,P,D)."""
    cls_attention: Floats
    """(W,M,P) before softmax."""
    cls_token: Floats
    """(W,D)."""

    def window(self, index: int) -> Encoded:
        """One window's outputs."""
        return Encoded(*(array[index] for array in self))


class ReferenceSubject:
    """The PyTorch reference: P patches, N classes, T prompts of L tokens, M heads."""

    name = "reference"
    gates: PrecisionGates | None = None
    """Gates of a precision below float32."""

    def __init__(self, reference: Reference) -> None:
        self.model = reference
        self._preprocessing = Preprocessing(reference.backbone.mean, reference.backbone.std)

    def text_features(self, input_ids: Ids) -> Floats | None:
        """(n,L) -> raw features (n,512); None where the subject does not give them."""
        return _array(self.model.text_features(torch.from_numpy(input_ids)))

    def text_embeds(self, input_ids: Ids) -> Floats:
        """(N,T,L) -> (N,D) of norm 1."""
        return _array(self.model.text_embeds(torch.from_numpy(input_ids)))

    def encode(self, windows: Pixels) -> Encoded:
        """(W,h,w,3) -> features."""
        pixel_values = to_pixel_values(windows, self.model.backbone.input_size, self._preprocessing)
        with torch.inference_mode():
            features = self.model.image_features(torch.from_numpy(pixel_values))
        return Encoded(pixel_values, *(_array(tensor) for tensor in features))

    def similarity(self, patch_tokens: Floats, text_embeds: Floats) -> Floats:
        """(P,D), (N,D) -> cosines (N,P)."""
        return _array(reference_masks.cosine_similarity(*_tensors(patch_tokens, text_embeds)))

    def scores(self, similarity: Floats) -> Floats:
        """Cosines -> 0 to 1."""
        return _array(torch.from_numpy(similarity).sigmoid())

    def clean(self, window: Encoded, similarity: Floats, text_embeds: Floats, weight: float) -> Floats:
        """Official cleaning of one window's scores (N,P)."""
        tensors = _tensors(similarity, window.patch_tokens, window.cls_attention, text_embeds)
        return _array(reference_masks.clean(*tensors, cleaning="official", weight=weight))

    def upsample(self, planes: Floats, size: tuple[int, int]) -> Floats:
        """Patches (N,h,w) -> pixels of a window (N,H,W)."""
        return _array(reference_masks.upsample(torch.from_numpy(planes), size, align_corners=True))

    def refine(self, image: Pixels, planes: Floats) -> Floats:
        """PAMR of planes (N,H,W) by an image (H,W,3)."""
        pixels, tensor = _tensors(image.transpose(2, 0, 1), planes)
        return _array(reference_masks.pamr(pixels, tensor))

    def segment(self, image: Pixels, resized: Pixels, text_embeds: Floats, weight: float, *, refine: bool) -> Floats:
        """Cleaned scores (N,H,W) of an image (H,W,3) by sliding windows over `resized` (h,w,3)."""
        own, working, embeds = _tensors(image.transpose(2, 0, 1), resized.transpose(2, 0, 1), text_embeds)
        scores = self.model.segment_sliding(
            own, embeds, resized=working, cleaning="official", cleaning_weight=weight, refine=refine
        )
        return _array(scores)


class BundleSubject:
    """An exported bundle in the torch-free runtime."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.name = f"bundle on {segmenter.backend_name}"
        self.gates = GATES.get(segmenter.precision)
        if self.gates is not None:
            self.name += f" in {segmenter.precision}"

    def text_features(self, input_ids: Ids) -> Floats | None:
        """None: the graph does not output them."""
        return None

    def text_embeds(self, input_ids: Ids) -> Floats:
        """See `ReferenceSubject`."""
        return self.segmenter.encoders.run_text_encoder(input_ids)

    def encode(self, windows: Pixels) -> Encoded:
        """See `ReferenceSubject`."""
        manifest = self.segmenter.manifest
        pixel_values = to_pixel_values(windows, manifest.model.input_size, manifest.preprocessing)
        outputs = self.segmenter.encoders.run_image_encoder(windows)
        return Encoded(pixel_values, outputs["patch_tokens"], outputs["cls_attention"], outputs["cls_token"])

    def similarity(self, patch_tokens: Floats, text_embeds: Floats) -> Floats:
        """See `ReferenceSubject`."""
        similarity: Floats = cosine_similarity(patch_tokens[None], text_embeds)[0]
        return similarity

    def scores(self, similarity: Floats) -> Floats:
        """See `ReferenceSubject`."""
        return scores_of(similarity)

    def clean(self, window: Encoded, similarity: Floats, text_embeds: Floats, weight: float) -> Floats:
        """See `ReferenceSubject`."""
        scores = scores_of(similarity)
        tokens, attention = window.patch_tokens, window.cls_attention
        return clean_scores(scores, tokens, attention, text_embeds, method="official", weight=weight)

    def upsample(self, planes: Floats, size: tuple[int, int]) -> Floats:
        """See `ReferenceSubject`."""
        return upsample(planes, size, align_corners=True)

    def refine(self, image: Pixels, planes: Floats) -> Floats:
        """See `ReferenceSubject`."""
        return refine(image, planes, self.segmenter.manifest.defaults.pamr)

    def segment(self, image: Pixels, resized: Pixels, text_embeds: Floats, weight: float, *, refine: bool) -> Floats:
        """See `ReferenceSubject`."""
        encoding = replace(self.segmenter.encode_image(resized), image=image)
        names = tuple(str(number) for number in range(len(text_embeds)))
        classes = ClassEmbeddings(names, text_embeds, self.segmenter.vocabulary_digest)
        result = self.segmenter.segment(
            encoding, classes, cleaning="official", cleaning_weight=weight, refine=refine, keep_scores=True
        )
        return cast(Floats, result.scores)


Subject = ReferenceSubject | BundleSubject
"""Every stage as a function of arrays."""


def _tensors(*arrays: NDArray[np.generic]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().numpy()
    return array
