"""The runtime's front door: open a bundle, encode words and images, segment."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.base import Backend, Engine
from t2d_runtime.backends.registry import open_backend, open_candidates
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER, Bundle
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS, Manifest
from t2d_runtime.errors import BackendError, OptionError
from t2d_runtime.image.preprocess import ImageLike, load_image, resize, to_pixel_values
from t2d_runtime.image.windows import Window, cut_windows, resized_size, window_boxes
from t2d_runtime.masks.pamr.refine import begin_warm_up
from t2d_runtime.masks.postprocess import label_map_of
from t2d_runtime.overlap import overlapped
from t2d_runtime.proof.parity import PRECISIONS
from t2d_runtime.proof.verdicts import fastest_precision, require_proven
from t2d_runtime.results.options import (
    check_classes,
    checked_flag,
    checked_num_threads,
    checked_settings,
    checked_window,
)
from t2d_runtime.results.segmentation import (
    BACKGROUND,
    Cleaning,
    ImageEncoding,
    Segmentation,
    SegmentOptions,
    WindowMode,
)
from t2d_runtime.words.text import Tokenizer, check_class_names, check_templates, encode_class_names
from t2d_runtime.words.vocabulary import ClassEmbeddings, wrong_lengths

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
        self._cache_lock = threading.Lock()
        # One thread encodes words at a time; again by the same one, should `progress` encode some itself.
        self._text_lock = threading.RLock()

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
        num_threads = checked_num_threads(num_threads)
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
        names: Iterable[str],
        prompts: str | Iterable[str] = DEFAULT_PROMPTS,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> ClassEmbeddings:
        """Encode class names, each filled into the templates of `prompts`: a set's name, or templates with {}.

        Names seen before are not encoded again, nor wait for other threads' new ones. `progress` is called, while some
        are encoded, with (classes done, classes in all).
        Raises ClassNamesError (none, blank, above 1,000 characters, given twice) and OptionError (an unknown set, a
        template without {}).
        """
        names = check_class_names(names)
        templates = self._templates(prompts)
        known = self._known(names, templates)
        if len(known) < len(names):
            with self._text_lock:
                known = self._known(names, templates)  # another thread may have encoded them meanwhile
                known |= self._encode([name for name in names if name not in known], templates, len(names), progress)
        return ClassEmbeddings(names, np.stack([known[name] for name in names]), self.vocabulary_digest)

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
        """Embeddings of new names, the rest of those that are wanted."""
        if not names:
            return {}

        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(wanted - total + done, wanted)

        vectors = encode_class_names(names, templates, self._open_text_side(), self.run_text_encoder, report)
        with self._cache_lock:
            if len(self._cached_classes) + len(names) > CACHED_CLASSES:
                self._cached_classes.clear()
            self._cached_classes.update(
                {(name, templates): vector for name, vector in zip(names, vectors, strict=True)}
            )
        return dict(zip(names, vectors, strict=True))

    def tokenize(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids (n,L) of texts as they are, cut to the longest."""
        with self._text_lock:
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
        checked_window(window)
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
                raise self._wrong(f"{name} holds values that are not finite")
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
        settings = checked_settings(
            self.manifest.defaults,
            background=background,
            cleaning=cleaning,
            threshold=threshold,
            cleaning_weight=cleaning_weight,
            refine=refine,
            window=window,
            backend=self.backend_name,
            precision=self.precision,
        )
        keep_scores = checked_flag("keep_scores", keep_scores)
        check_classes(classes, self.bundle, background=settings.background)
        if isinstance(image, ImageEncoding):
            self._check_encoding(image)
            encoding = image
            settings = replace(settings, window=image.window_mode, backend=image.backend, precision=image.precision)
        else:
            if settings.refine:
                begin_warm_up()
            encoding = self.encode_image(image, window)
        labels, scores = label_map_of(
            encoding,
            classes.vectors,
            settings,
            self.manifest.defaults.pamr,
            keep_scores=keep_scores,
            num_threads=self._num_threads,
        )
        names = (BACKGROUND, *classes.names) if settings.background else classes.names
        return Segmentation(encoding.image, labels, names, scores, settings)

    def segment_batch(
        self, images: Iterable[ImageLike], classes: ClassEmbeddings, **options: Unpack[SegmentOptions]
    ) -> Iterator[Segmentation]:
        """Segment many images, with the options of `segment`: the same results, in order, as they are ready.

        While one image is encoded the next is read and the one before is segmented. `images` may be a generator: it is
        run in a thread of its own, few images ahead, and what it raises comes after the results before. What an image
        raises is raised in its place, and ends the iteration. Raises at once as `segment` for options and classes.
        """
        if isinstance(images, str | Path) or not isinstance(images, Iterable):
            raise OptionError(f"images are {type(images).__name__}, expected a list or a generator of images")
        asked: dict[str, Any] = {"window": "slide", **options}
        checked_flag("keep_scores", asked.pop("keep_scores", False))
        settings = checked_settings(
            self.manifest.defaults, **asked, backend=self.backend_name, precision=self.precision
        )
        check_classes(classes, self.bundle, background=settings.background)
        return self._segment_batch(images, classes, options)

    def _segment_batch(
        self, images: Iterable[ImageLike], classes: ClassEmbeddings, options: SegmentOptions
    ) -> Iterator[Segmentation]:
        if options.get("refine", False):
            begin_warm_up()
        encode = partial(self.encode_image, window=options.get("window", "slide"))
        stages = (load_image, encode, partial(self.segment, classes=classes, **options))
        with closing(overlapped(images, stages)) as results:
            for done in results:
                yield done.result()

    def _load(self, graph: str) -> Engine:
        logger.info("%s: %s in %s", self._backend.identity, graph, self.precision)
        return self._backend.load(self.bundle, graph, precision=self.precision, num_threads=self._num_threads)

    def run_text_encoder(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token ids (N,T,L) of N classes' T prompts -> embeddings (N,D) of norm 1. Raises BackendError."""
        embeds: NDArray[np.float32] = self._open_text_encoder().run({"input_ids": input_ids})["text_embeds"]
        wrong = wrong_lengths(embeds)
        if wrong is not None:
            raise self._wrong(f"text_embeds have {wrong}")
        return embeds

    def _open_text_side(self) -> Tokenizer:
        """The tokenizer; the text encoder is loaded beside it."""
        if self._text_encoder is None:
            with ThreadPoolExecutor(1) as pool:
                loading = pool.submit(self._open_text_encoder)
                self._open_tokenizer()
                loading.result()
        return self._open_tokenizer()

    def _open_text_encoder(self) -> Engine:
        if self._text_encoder is None:
            self._text_encoder = self._load(TEXT_ENCODER)
        return self._text_encoder

    def release_text_encoder(self) -> None:
        """Give its memory back; the next new word loads it again."""
        with self._text_lock:
            self._text_encoder = None

    def _open_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            context_length = self.manifest.model.context_length
            self._tokenizer = Tokenizer.from_file(self.bundle.file(TOKENIZER), context_length)
        return self._tokenizer

    def _templates(self, prompts: str | Iterable[str]) -> tuple[str, ...]:
        if not isinstance(prompts, str):
            return check_templates(prompts)
        if prompts not in self.manifest.prompt_sets:
            raise OptionError(
                f"unknown prompt set {prompts!r}, expected one of {sorted(self.manifest.prompt_sets)}, "
                'or a sequence of templates such as ["a photo of a {}."]'
            )
        return self.manifest.prompt_sets[prompts]

    def _wrong(self, what: str) -> BackendError:
        return BackendError(
            f"{self.engine_description} in {self.precision}: {what}; see 't2d selftest', or choose another backend or "
            "precision"
        )

    def _check_encoding(self, encoding: ImageEncoding) -> None:
        if encoding.model_digest != self.model_digest:
            raise OptionError(
                f"the image was encoded with another bundle (digest {encoding.model_digest[:12]}…, this bundle's is "
                f"{self.model_digest[:12]}…); encode it again with this one"
            )
