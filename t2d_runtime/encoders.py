"""One bundle on one backend: images and class names to features."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.base import Arrays, Backend, DeviceEngine, Engine
from t2d_runtime.backends.names import AUTOMATIC
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER, Bundle
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS, Manifest
from t2d_runtime.device.threads import default_num_threads
from t2d_runtime.errors import ClosedError, OptionError
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.features import DeviceFeatures, HostFeatures, ImageFeatures, check_finite, wrong_output
from t2d_runtime.image.preprocess import resize, to_pixel_values
from t2d_runtime.image.reading import ImageLike, load_image
from t2d_runtime.image.windows import (
    Window,
    WindowMode,
    checked_window,
    cut_windows,
    resized_size,
    size_of,
    window_boxes,
)
from t2d_runtime.words.class_list import ClassList, ClassNames, checked_classes
from t2d_runtime.words.text import Tokenizer, check_templates, encode_class_names
from t2d_runtime.words.vocabulary import ClassEmbeddings, wrong_lengths

logger = logging.getLogger(__name__)

WINDOW_BATCH = 4
"""Windows encoded at once: bounds memory (attention of one ViT-B window at 448 is 50 MB) at no loss of speed."""

CACHED_CLASSES = 16384
"""Most class embeddings kept for words that come again: 50 MB at D = 768."""


class Encoders:
    """A bundle's image encoder and, from the first new word on, its text encoder. Safe to call from several threads.

    `load_text_encoder` loads the text encoder at once, on a processor beside the image encoder.
    This class does not test the engine; `Segmenter.open` refuses one that does not pass the self-test.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        precision: str,
        num_threads: int | None = None,
        load_text_encoder: bool = False,
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.precision = precision
        self.num_threads = num_threads or default_num_threads()
        self._closed = False
        self._text_encoder: Engine | None = None
        self._tokenizer: Tokenizer | None = None
        self._cached_classes: dict[tuple[str, tuple[str, ...]], NDArray[np.float32]] = {}
        self._cache_lock = threading.Lock()
        # One thread encodes words at a time. It may enter again, since `progress` may encode words itself.
        self._text_lock = threading.RLock()
        self._image_encoder: Engine | None
        if load_text_encoder and backend.name in AUTOMATIC:
            # An engine arranges its weights on one thread. On a GPU two builders would disturb each other's timing.
            with ThreadPoolExecutor(1) as pool:
                loading = pool.submit(self._open_text_side)
                self._image_encoder = self._load(IMAGE_ENCODER)
                loading.result()
        else:
            self._image_encoder = self._load(IMAGE_ENCODER)
            if load_text_encoder:
                self._open_text_side()

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def has_text_encoder(self) -> bool:
        """True while the text encoder is loaded."""
        return self._text_encoder is not None

    @property
    def has_device_outputs(self) -> bool:
        """True where the image encoder can leave its outputs in a GPU's memory."""
        return isinstance(self._image_encoder, DeviceEngine)

    def __repr__(self) -> str:
        return f"{self.backend.identity} in {self.precision}{', closed' if self._closed else ''}"

    def close(self) -> None:
        """Free both encoders and the words kept, once a call that encodes words has ended. A second close does nothing.

        A call that encodes an image meanwhile ends as usual; its engine's memory is free after it.
        """
        with self._text_lock:
            self._closed = True
            self._image_encoder = self._text_encoder = self._tokenizer = None
            with self._cache_lock:
                self._cached_classes.clear()

    def check_open(self) -> None:
        """Raises ClosedError after `close`."""
        if self._closed:
            raise self._was_closed()

    def encode_image(self, image: ImageLike, window: WindowMode = "slide", *, on_device: bool = False) -> ImageEncoding:
        """Encode an image, in any form that `load_image` takes.

        `window`: "slide" (as published) or "whole" (the resized image as one window). `on_device` leaves the features
        in the GPU's memory where the engine can.
        Raises ImageError, ImageNotFoundError, OptionError, BackendError.
        """
        checked_window(window)
        self.check_open()
        pixels = load_image(image)
        settings = self.manifest.windows
        size = resized_size(size_of(pixels), settings)
        resized = resize(pixels, size)
        boxes = (Window(0, 0, *size),) if window == "whole" else window_boxes(size, settings)
        return ImageEncoding(
            image=pixels,
            resized=resized,
            windows=boxes,
            features=self._encode_windows(cut_windows(resized, boxes), on_device),
            window_mode=window,
            model_digest=self.bundle.model_digest,
            backend=self.backend.name,
            precision=self.precision,
            engine=str(self.backend.identity),
        )

    def run_image_encoder(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Outputs of the image encoder for windows (W,h,w,3) uint8 RGB, by name. Raises BackendError."""
        return self._run(self._open_image_encoder(), crops)

    def encode_classes(
        self,
        classes: ClassNames | ClassList,
        prompts: str | Iterable[str] = DEFAULT_PROMPTS,
        *,
        negatives: Iterable[str] = (),
        thresholds: Mapping[str, float] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ClassEmbeddings:
        """Encode classes; the arguments and errors are those of `Segmenter.encode_classes`."""
        self.check_open()
        if not isinstance(classes, ClassList):
            classes = checked_classes(classes, negatives, thresholds)
        elif tuple(negatives) or thresholds:
            raise OptionError(
                "negatives and thresholds have no effect on a ClassList, which holds its own; leave them out"
            )
        phrases = classes.all_phrases
        templates = self._templates(prompts)
        known = self._known(phrases, templates)
        if len(known) < len(phrases):
            with self._text_lock:
                known = self._known(phrases, templates)  # another thread may have encoded them meanwhile
                new = [phrase for phrase in phrases if phrase not in known]
                known |= self._encode(new, templates, len(phrases), progress)
        return ClassEmbeddings(
            classes.names,
            np.stack([known[phrase] for phrase in phrases]),
            self.bundle.vocabulary_digest,
            phrases,
            classes.class_indices,
            classes.thresholds,
            templates,
        )

    def tokenize(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids (n,L) of texts without any prompt, cut to the longest."""
        with self._text_lock:
            return self._open_tokenizer().encode(texts)

    def run_text_encoder(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token ids (N,T,L) of N classes' T prompts -> embeddings (N,D) of norm 1. Raises BackendError."""
        embeds: NDArray[np.float32] = self._open_text_encoder().run({"input_ids": input_ids})["text_embeds"]
        wrong = wrong_lengths(embeds)
        if wrong is not None:
            raise wrong_output(str(self), f"text_embeds have {wrong}")
        return embeds

    def release_text_encoder(self) -> None:
        """Free the text encoder's memory; the next new word loads it again."""
        with self._text_lock:
            self._text_encoder = None

    def _encode_windows(self, crops: NDArray[np.uint8], on_device: bool) -> ImageFeatures:
        """Features of windows (W,h,w,3), a few at a time."""
        batches = [crops[start : start + WINDOW_BATCH] for start in range(0, len(crops), WINDOW_BATCH)]
        h, w = self.manifest.model.grid_size
        engine = self._open_image_encoder()
        if on_device and isinstance(engine, DeviceEngine):
            parts = [part for batch in batches for part in engine.run_on_device(self._image_inputs(batch))]
            tokens, attention = ([part[name] for part in parts] for name in ("patch_tokens", "cls_attention"))
            return DeviceFeatures(len(crops), tokens, attention, (h, w), str(self))
        outputs = [self._run(engine, batch) for batch in batches]
        return HostFeatures(
            np.concatenate([output["patch_tokens"] for output in outputs]).reshape(len(crops), h, w, -1),
            np.concatenate([output["cls_attention"] for output in outputs]).reshape(len(crops), -1, h, w),
        )

    def _run(self, engine: Engine, crops: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        outputs = engine.run(self._image_inputs(crops))
        for name, array in outputs.items():
            check_finite(name, array, str(self))
        return outputs

    def _image_inputs(self, crops: NDArray[np.uint8]) -> Arrays:
        return {"pixel_values": to_pixel_values(crops, self.manifest.model.input_size, self.manifest.preprocessing)}

    def _open_image_encoder(self) -> Engine:
        engine = self._image_encoder
        if engine is None:
            raise self._was_closed()
        return engine

    def _known(self, names: Sequence[str], templates: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        with self._cache_lock:
            found = ((name, self._cached_classes.get((name, templates))) for name in names)
            return {name: vector for name, vector in found if vector is not None}

    def _encode(
        self,
        names: Sequence[str],
        templates: tuple[str, ...],
        wanted: int,
        progress: Callable[[int, int], None] | None,
    ) -> dict[str, NDArray[np.float32]]:
        """Embeddings of new names. `wanted` is the number of all names, known ones included."""
        if not names:
            return {}

        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(wanted - total + done, wanted)

        vectors = encode_class_names(names, templates, self._open_text_side(), self.run_text_encoder, report)
        found = dict(zip(names, vectors, strict=True))
        # Copies: a row would keep all rows in memory.
        kept = {(name, templates): found[name].copy() for name in names[:CACHED_CLASSES]}
        with self._cache_lock:
            if len(self._cached_classes) + len(kept) > CACHED_CLASSES:
                self._cached_classes.clear()
            self._cached_classes.update(kept)
        return found

    def _templates(self, prompts: str | Iterable[str]) -> tuple[str, ...]:
        if not isinstance(prompts, str):
            return check_templates(prompts)
        if prompts not in self.manifest.prompt_sets:
            raise OptionError(
                f"unknown prompt set {prompts!r}, expected one of {sorted(self.manifest.prompt_sets)}, "
                'or a sequence of templates such as ["a photo of a {}."]'
            )
        return self.manifest.prompt_sets[prompts]

    def _load(self, graph: str) -> Engine:
        logger.info("%s: %s in %s", self.backend.identity, graph, self.precision)
        return self.backend.load(self.bundle, graph, precision=self.precision, num_threads=self.num_threads)

    def _open_text_side(self) -> Tokenizer:
        """The tokenizer; loads the text encoder too."""
        if self._text_encoder is None:
            with ThreadPoolExecutor(1) as pool:
                loading = pool.submit(self._open_text_encoder)
                self._open_tokenizer()
                loading.result()
        return self._open_tokenizer()

    def _open_text_encoder(self) -> Engine:
        if self._text_encoder is None:
            self.check_open()
            self._text_encoder = self._load(TEXT_ENCODER)
        return self._text_encoder

    def _open_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self.check_open()
            context_length = self.manifest.model.context_length
            self._tokenizer = Tokenizer.from_file(self.bundle.file(TOKENIZER), context_length)
        return self._tokenizer

    def _was_closed(self) -> ClosedError:
        return ClosedError(f"the segmenter of {self.bundle.folder} was closed; open the bundle again")
