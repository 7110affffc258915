"""The model that Triton's Python backend runs: a picture and words to labels.

The model.py of a written repository hands the backend's module and each batch of requests to `SegmentationModel`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import ClassNamesError, ImageError, ImageNotFoundError, OptionError, T2DError
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.serving.triton.question import question_of
from t2d_runtime.serving.triton.tensors import Tensors

logger = logging.getLogger(__name__)

LABEL_MAP, CLASS_NAMES, RLE = "label_map", "class_names", "rle"
"""Outputs of the model. The last two are the UTF-8 bytes of JSON. A request gets those that it names, or all."""

BUNDLE, BACKEND, PRECISION, NUM_THREADS, MAX_PHRASES = "bundle", "backend", "precision", "num_threads", "max_phrases"
"""Parameters in the model's config.pbtxt."""

DEFAULT_MAX_PHRASES = 2000
"""Most phrases of a request: LVIS has 1,203 classes. Thousands more would keep an instance busy for minutes."""

BUNDLE_FOLDER = "bundle"
"""Place of a copied bundle in the model's version folder."""

OF_THE_REQUEST = (ImageError, ImageNotFoundError, ClassNamesError, OptionError)
"""Errors of a request itself. Their text names nothing of this machine."""

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


class SegmentationModel:
    """One instance of the model: a process of its own, with one opened bundle."""

    def __init__(self, segmenter: Segmenter, pb_utils: Any, max_phrases: int = DEFAULT_MAX_PHRASES) -> None:
        self._segmenter = segmenter
        self._max_phrases = max_phrases
        self._pb_utils = pb_utils
        self._tensors = Tensors(pb_utils)

    @classmethod
    def open(cls, pb_utils: Any, args: Mapping[str, str]) -> SegmentationModel:
        """Open the bundle that the configuration names. `args`: what the backend gives to `initialize`.

        Raises the errors of `Segmenter.open`; Triton then reports that the model does not load, with their text.
        """
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        parameters = json.loads(args["model_config"])["parameters"]
        values = {name: content["string_value"] for name, content in parameters.items()}
        take_gpu(args, os.environ)
        folder = values.get(BUNDLE) or Path(args["model_repository"]) / args["model_version"] / BUNDLE_FOLDER
        num_threads = values.get(NUM_THREADS)
        segmenter = Segmenter.open(
            folder,
            backend=values[BACKEND],
            precision=values[PRECISION],
            num_threads=None if num_threads is None else int(num_threads),
        )
        # Loads the text encoder too, and says at once where the extra of the RLE is missing.
        segmenter.segment(np.zeros((64, 64, 3), np.uint8), ["thing"], refine=True).rle()
        return cls(segmenter, pb_utils, int(values.get(MAX_PHRASES, DEFAULT_MAX_PHRASES)))

    def execute(self, requests: Iterable[Any]) -> list[Any]:
        """A response for each request of a batch: the outputs, or the error of this request."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        try:
            question = question_of(request, self._tensors)
            phrases = len(question.classes.all_phrases)
            if phrases > self._max_phrases:
                raise ClassNamesError(f"{phrases} phrases, expected at most {self._max_phrases}")
            classes = self._segmenter.encode_classes(question.classes, question.prompts)
            result = self._segmenter.segment(question.image, classes, **question.options)
            return self._pb_utils.InferenceResponse(self._outputs(result, request.requested_output_names()))
        except OF_THE_REQUEST as error:
            return self._failed(str(error), "INVALID_ARG")
        except T2DError as error:
            logger.error("a request failed: %s", error)
        except Exception:  # one that left `execute` would fail the other requests of the batch too
            logger.exception("a request failed")
        return self._failed("the picture could not be segmented; the server's log says why", "INTERNAL")

    def _outputs(self, result: Segmentation, wanted: Iterable[str]) -> list[Any]:
        arrays: dict[str, Callable[[], NDArray[Any]]] = {
            LABEL_MAP: lambda: result.label_map.astype(np.uint16),
            CLASS_NAMES: lambda: _json_bytes(result.class_names),
            RLE: lambda: _json_bytes(result.rle()),
        }
        return [self._tensors.make(name, arrays[name]()) for name in wanted]

    def _failed(self, message: str, code: str) -> Any:
        """An error of Triton. Its codes have names in the backend since Triton 23.09."""
        error = self._pb_utils.TritonError
        kind = getattr(error, code, None)
        return self._pb_utils.InferenceResponse(error=error(message) if kind is None else error(message, kind))


def take_gpu(args: Mapping[str, str], environment: MutableMapping[str, str]) -> None:
    """Narrow this process to the GPU of an instance of KIND_GPU: engines take the first GPU that they see."""
    if args["model_instance_kind"] != "GPU":
        return
    index, visible = int(args["model_instance_device_id"]), environment.get(VISIBLE_DEVICES, "").split(",")
    environment[VISIBLE_DEVICES] = visible[index] if index < len(visible) and visible[index] else str(index)


def _json_bytes(content: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(content, ensure_ascii=False).encode(), np.uint8)
