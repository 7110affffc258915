"""The runtime's front door: open a bundle, encode words and images, segment."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.base import Backend, Engine
from t2d_runtime.backends.registry import open_backend, open_candidates
from t2d_runtime.bundle import IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER, Bundle
from t2d_runtime.errors import BackendError, OptionError
from t2d_runtime.manifest import DEFAULT_PROMPTS, Manifest
from t2d_runtime.options import (
    check_classes,
    check_num_threads,
    checked_cleaning,
    checked_cleaning_weight,
    checked_threshold,
)
from t2d_runtime.overlap import overlapped
from t2d_runtime.parity import PRECISIONS
from t2d_runtime.postprocess import label_map_of
from t2d_runtime.preprocess import load_image, resize, to_pixel_values
from t2d_runtime.proof import fastest_precision, require_proven
from t2d_runtime.refine import begin_warm_up
from t2d_runtime.segmentation import (
    BACKGROUND,
    Cleaning,
    ImageEncoding,
    Segmentation,
    SegmentationSettings,
    SegmentOptions,
    WindowMode,
)
from t2d_runtime.text import Tokenizer, check_class_names, encode_class_names
from t2d_runtime.vocabulary import ClassEmbeddings
from t2d_runtime.windows import Window, cut_windows, resized_size, window_boxes

if TYPE_CHECKING:
    from PIL import Image

    ImageLike = str | Path | Image.Image | NDArray[np.uint8]

logger = logging.getLogger(__name__)

FAST = "fast"
"""The precision's name that leaves the choice to measurement."""

WINDOW_BATCH = 4
"""Windows encoded at once: bounds memory (attention of one ViT-B window at 448 is 50 MB) at no loss of speed."""

CACHED_CLASSES = 16384
"""Class embeddings kept for words that come again: 50 MB at D = 768."""


class Segmenter:
    """Open-vocabulary segmentation with one bundle on one backend. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, backend: Backend, *, precision: str, num_threads: int | None = None) -> None:
        self.bundle = bundle
        self.manifest: Manifest = bundle.manifest
        self.backend_name = backend.name
        self.precision = precision
        self._backend = backend
        self._num_threads = num_threads
        self._image_encoder = self._load(IMAGE_ENCODER)
        self._text_encoder: Engine | None = None
        self._tokenizer: Tokenizer | None = None
        self._cached_classes: dict[tuple[str, tuple[str, ...]], NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        *,
        backend: str = "auto",
        precision: str = "fp32",
        num_threads: int | None = None,
    ) -> Segmenter:
        """Open a bundle folder and load its image encoder.

        `backend`: auto, or a name of `t2d_runtime.backends.registry`. `precision`: fp32 (the reference's masks),
        fp16, bf16, int8, or "fast", the fastest that passes its gates here; with auto, on any backend installed.
        `num_threads`: None lets the engine choose. An engine that is seen for the first time on this machine runs
        the bundle's self-test; the verdict is remembered.
        Raises BundleError, BundleNotFoundError, BackendUnavailableError, BackendError, SelfTestError, OptionError.
        """
        segmenter = cls.open_unproven(bundle, backend=backend, precision=precision, num_threads=num_threads)
        require_proven(segmenter, segmenter._backend)
        return segmenter

    @classmethod
    def open_unproven(
        cls, bundle: str | Path, *, backend: str, precision: str, num_threads: int | None = None
    ) -> Segmenter:
        """As `open`, but an engine is not refused for its self-test: for showing what fails."""
        check_num_threads(num_threads)
        if precision not in (*PRECISIONS, FAST):
            raise OptionError(f"precision is {precision!r}, expected one of {[*PRECISIONS, FAST]}")
        opened = Bundle.open(bundle)
        if precision == FAST:
            chosen, precision = fastest_precision(opened, open_candidates(backend), num_threads)
        else:
            chosen = open_backend(backend)
        return cls(opened, chosen, precision=precision, num_threads=num_threads)

    @property
    def engine_description(self) -> str:
        """Engine, version, device and driver."""
        return str(self._backend.identity)

    def encode_classes(
        self,
        names: Sequence[str],
        prompts: str | Sequence[str] = DEFAULT_PROMPTS,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> ClassEmbeddings:
        """Encode class names, each filled into the templates of `prompts`: a set's name, or templates with {}.

        Names seen before are not encoded again. `progress` is called with (classes done, classes in all).
        Raises ClassNamesError (none, blank, given twice) and OptionError (an unknown set, a template without {}).
        """
        names = check_class_names(names)
        templates = self._templates(prompts)
        with self._lock:
            cached = self._cached_classes
            new = [name for name in names if (name, templates) not in cached]
            if len(cached) + len(new) > CACHED_CLASSES:
                cached.clear()
                new = list(names)
            if new:
                vectors = encode_class_names(new, templates, self._open_tokenizer(), self.run_text_encoder, progress)
                cached.update({(name, templates): vector for name, vector in zip(new, vectors, strict=True)})
            stacked = np.stack([cached[name, templates] for name in names])
        return ClassEmbeddings(names=names, vectors=stacked, digest=self.vocabulary_digest)

    def tokenize(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids (n,L) of texts as they are, cut to the longest."""
        with self._lock:
            return self._open_tokenizer().encode(texts)

    @property
    def vocabulary_digest(self) -> str:
        """Identity of the text encoder: vocabularies of one bundle serve another with the same digest."""
        return self.bundle.vocabulary_digest

    @property
    def model_digest(self) -> str:
        """Identity of the image encoder: an encoding of one bundle is segmented with another of the same digest."""
        return self.bundle.model_digest

    def encode_image(self, image: ImageLike, window: WindowMode = "slide") -> ImageEncoding:
        """Encode an image: a path, a PIL image, or an (H,W,3) uint8 RGB array.

        `window`: "slide" (as published) or "whole" (the resized image as one window).
        Raises ImageError, ImageNotFoundError, OptionError, BackendError.
        """
        if window not in get_args(WindowMode):
            raise OptionError(f"window is {window!r}, expected one of {list(get_args(WindowMode))}")
        pixels = load_image(image)
        settings = self.manifest.windows
        height, width = resized_size((pixels.shape[0], pixels.shape[1]), settings)
        resized = resize(pixels, (height, width))
        whole = (Window(0, 0, height, width),)
        boxes = whole if window == "whole" else window_boxes((height, width), settings)
        crops = cut_windows(resized, boxes)
        outputs = [
            self.run_image_encoder(crops[start : start + WINDOW_BATCH]) for start in range(0, len(crops), WINDOW_BATCH)
        ]
        h, w = self.manifest.model.grid_size
        tokens = np.concatenate([output["patch_tokens"] for output in outputs])
        attention = np.concatenate([output["cls_attention"] for output in outputs])
        return ImageEncoding(
            image=pixels,
            resized=resized,
            windows=boxes,
            patch_tokens=tokens.reshape(len(boxes), h, w, -1),
            cls_attention=attention.reshape(len(boxes), -1, h, w),
            window_mode=window,
            model_digest=self.model_digest,
            backend=self.backend_name,
            precision=self.precision,
        )

    def run_image_encoder(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Outputs of the image encoder for windows (W,h,w,3) uint8 RGB, by name."""
        model = self.manifest.model
        values = to_pixel_values(crops, model.input_size, self.manifest.preprocessing)
        outputs = self._image_encoder.run({"pixel_values": values})
        for name, array in outputs.items():
            if not np.isfinite(array).all():
                raise BackendError(
                    f"{self.engine_description} in {self.precision}: {name} holds values that are not finite; "
                    "see 't2d selftest', or choose another backend or precision"
                )
        return outputs

    def segment(
        self,
        image: ImageLike | ImageEncoding,
        classes: ClassEmbeddings,
        *,
        background: bool = False,
        cleaning: bool | Cleaning | None = None,
        threshold: float | None = None,
        cleaning_weight: float | None = None,
        refine: bool = False,
        window: WindowMode = "slide",
        keep_scores: bool = False,
    ) -> Segmentation:
        """Label every pixel with the class whose words fit best, or with background.

        `background`: label 0 where no class exceeds `threshold` (0 to 1). `cleaning`: None follows `background`,
        False is off, True or "official" as released, "paper" as in Eq. 8-10. `cleaning_weight`: lambda, from 0.
        `refine`: PAMR. `window` is the encoding's own where an ImageEncoding is given. None takes the manifest's.
        Raises OptionError (also for an encoding of another bundle), VocabularyError (embeddings of another bundle),
        ClassNamesError (more than 65,536 labels), and as `encode_image`.
        """
        if refine and not isinstance(image, ImageEncoding):
            begin_warm_up()
        encoding = image if isinstance(image, ImageEncoding) else self.encode_image(image, window)
        settings = SegmentationSettings(
            background=background,
            cleaning=checked_cleaning(cleaning, background=background),
            threshold=checked_threshold(threshold, self.manifest.defaults),
            cleaning_weight=checked_cleaning_weight(cleaning_weight, self.manifest.defaults),
            refine=refine,
            window=encoding.window_mode,
            backend=encoding.backend,
            precision=encoding.precision,
        )
        self._check_encoding(encoding)
        check_classes(classes, self.bundle, background=background)
        labels, scores = label_map_of(
            encoding,
            classes.vectors,
            settings,
            self.manifest.defaults.pamr,
            keep_scores=keep_scores,
            num_threads=self._num_threads,
        )
        names = (BACKGROUND, *classes.names) if background else classes.names
        return Segmentation(encoding.image, labels, names, scores, settings)

    def segment_batch(
        self, images: Iterable[ImageLike], classes: ClassEmbeddings, **options: Unpack[SegmentOptions]
    ) -> Iterator[Segmentation]:
        """Segment many images, with the options of `segment`: the same results, in order, as they are ready.

        While one image is encoded the next is read and the one before is segmented. `images` may be a generator: few
        of them are in memory at a time. What an image raises is raised in its place, and ends the iteration.
        """
        if options.get("refine", False):
            begin_warm_up()
        window = options.pop("window", "slide")
        segment = partial(self.segment, classes=classes, **options)
        stages = (load_image, partial(self.encode_image, window=window), segment)
        with closing(overlapped(images, stages)) as results:
            for done in results:
                yield done.result()

    def _load(self, graph: str) -> Engine:
        logger.info("%s: %s in %s", self._backend.identity, graph, self.precision)
        return self._backend.load(self.bundle, graph, precision=self.precision, num_threads=self._num_threads)

    def run_text_encoder(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token ids (N,T,L) of N classes' T prompts -> embeddings (N,D) of norm 1."""
        if self._text_encoder is None:
            self._text_encoder = self._load(TEXT_ENCODER)
        embeds: NDArray[np.float32] = self._text_encoder.run({"input_ids": input_ids})["text_embeds"]
        return embeds

    def _open_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            context_length = self.manifest.model.context_length
            self._tokenizer = Tokenizer.from_file(self.bundle.file(TOKENIZER), context_length)
        return self._tokenizer

    def _templates(self, prompts: str | Sequence[str]) -> tuple[str, ...]:
        if not isinstance(prompts, str):
            return tuple(prompts)
        if prompts not in self.manifest.prompt_sets:
            raise OptionError(
                f"unknown prompt set {prompts!r}, expected one of {sorted(self.manifest.prompt_sets)}, "
                'or a sequence of templates such as ["a photo of a {}."]'
            )
        return self.manifest.prompt_sets[prompts]

    def _check_encoding(self, encoding: ImageEncoding) -> None:
        if encoding.model_digest != self.model_digest:
            raise OptionError(
                f"the image was encoded with another bundle (digest {encoding.model_digest[:12]}…, this bundle's is "
                f"{self.model_digest[:12]}…); encode it again with this one"
            )
