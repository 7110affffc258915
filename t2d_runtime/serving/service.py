"""The work behind the addresses: pictures and questions to answers, through the queue."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from t2d_runtime import __version__
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.errors import ImageSizeError, OptionError
from t2d_runtime.image.containers import MOST_SCANS
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.reading import load_image
from t2d_runtime.image.windows import WindowMode, size_of
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.serving.answers import FORMATS, content_of
from t2d_runtime.serving.kept_images import ImageStore
from t2d_runtime.serving.known_words import KnownWords
from t2d_runtime.serving.limits import MOST_DILATION, MOST_DILATIONS, MOST_ITERATIONS, Limits
from t2d_runtime.serving.live import Live
from t2d_runtime.serving.live_source import LiveSource
from t2d_runtime.serving.metrics import Metrics
from t2d_runtime.serving.question import Question
from t2d_runtime.serving.queue import Queue, Turn
from t2d_runtime.serving.uploads import Uploads
from t2d_runtime.words.vocabulary import ClassEmbeddings

LiveStart = tuple[LiveSource, ClassEmbeddings]
"""A live source, and the words that are looked for at first."""


@dataclass(frozen=True)
class Answer:
    """The bytes of an answer."""

    content: bytes
    media_type: str


class Service:
    """One bundle's segmenter behind one queue, with the encoded pictures that are kept."""

    def __init__(
        self, segmenter: Segmenter, limits: Limits, live: LiveStart | None = None, known: KnownWords | None = None
    ) -> None:
        self.segmenter = segmenter
        self.known = known
        self.limits = limits
        self.metrics = Metrics()
        self.queue = Queue(limits, self.metrics)
        self.uploads = Uploads(limits, self.metrics)
        self.images = ImageStore(limits.images_bytes)
        self.live = None
        if live is not None:
            source, classes = live
            self.live = Live(
                source, classes, segmenter, queue=self.queue, metrics=self.metrics, most_viewers=limits.viewers
            )
        self.metrics.places.set(limits.queue)

    def warm_up(self) -> None:
        """Segment a small picture, so that the text encoder and all code is loaded before the first request.

        Raises the errors of `Segmenter.segment`: BundleNotFoundError without a text encoder where no words are known,
        VocabularyError where the known ones are another bundle's.
        """
        classes = ["thing"] if self.known is None else self.known.sample()
        self.segmenter.segment(np.zeros((64, 64, 3), np.uint8), classes, background=True, refine=True)

    def end_live(self) -> None:
        """Let those go who look at the live source, so that the server can end."""
        if self.live is not None:
            self.live.end()

    async def close(self) -> None:
        """End all threads."""
        if self.live is not None:
            self.live.end()
            await asyncio.to_thread(self.live.join)
        self.queue.close()

    async def change_words(self, live: Live, window: WindowMode, question: Question, turn: Turn) -> Answer:
        """Look for other words in the live source."""
        async with self.queue.work(turn):
            classes = await self._embeddings(question, window, turn)
            self._check_scores(live.size, len(classes.vectors))
            live.set_words(classes, {**question.options, "window": window})
        return Answer(json.dumps(live.info()).encode(), "application/json")

    async def segment_upload(self, image: bytes, window: WindowMode, question: Question, turn: Turn) -> Answer:
        """Segment a picture that is not encoded yet."""
        async with self.queue.work(turn):
            classes = await self._embeddings(question, window, turn)
            encoding = await self._encode(image, window, len(classes.vectors), turn)
            return await self._answer(encoding, classes, question, turn)

    async def segment_kept(self, encoding: ImageEncoding, question: Question, turn: Turn) -> Answer:
        """Segment an encoded picture."""
        async with self.queue.work(turn):
            classes = await self._embeddings(question, encoding.window_mode, turn)
            self._check_scores(size_of(encoding.image), len(classes.vectors))
            return await self._answer(encoding, classes, question, turn)

    async def keep(self, image: bytes, window: WindowMode, owner: str, turn: Turn) -> Answer:
        """Encode a picture and keep it; the answer has its id."""
        async with self.queue.work(turn):
            encoding = await self._encode(image, window, 1, turn)
            name = self.images.add(encoding, owner)
        self.count_images()
        height, width = size_of(encoding.image)
        content = {"id": name, "height": height, "width": width, "windows": len(encoding.windows)}
        return Answer(json.dumps(content).encode(), "application/json")

    def count_images(self) -> None:
        """Tell the metrics how many pictures are kept."""
        self.metrics.images.set(len(self.images))
        self.metrics.images_bytes.set(self.images.size_bytes)

    def info(self) -> dict[str, Any]:
        """Facts about the model, the engine, the options and the limits."""
        manifest, limits = self.segmenter.manifest, self.limits
        defaults = manifest.defaults
        return {
            "version": __version__,
            "backbone": manifest.model.backbone,
            "engine": self.segmenter.engine_description,
            "backend": self.segmenter.backend_name,
            "precision": self.segmenter.precision,
            "prompt_sets": {name: len(templates) for name, templates in manifest.prompt_sets.items()},
            "defaults": {
                "threshold": defaults.threshold,
                "cleaning_weight": defaults.cleaning_weight,
                "refine": {"iterations": defaults.pamr.iterations, "dilations": list(defaults.pamr.dilations)},
            },
            "live": None if self.live is None else self.live.source.name,
            "vocabulary": None if self.known is None else list(self.known.words),
            "formats": FORMATS,
            "limits": {
                **asdict(limits),
                "scans": MOST_SCANS,
                "refine": {
                    "iterations": MOST_ITERATIONS,
                    "dilations": MOST_DILATIONS,
                    "dilation": MOST_DILATION,
                },
            },
        }

    async def _embeddings(self, question: Question, window: WindowMode, turn: Turn) -> ClassEmbeddings:
        """The classes' embeddings. Options are checked with them, before the picture is looked at."""
        classes = await self.queue.run("words", turn, self._words, question, turn)
        self.segmenter.check_options(classes, window=window, **question.options)
        return classes

    def _words(self, question: Question, turn: Turn) -> ClassEmbeddings:
        if self.known is None:
            prompts = DEFAULT_PROMPTS if question.prompts is None else question.prompts
            return self.segmenter.encode_classes(question.classes, prompts, progress=turn.progress)
        if question.prompts is not None:
            raise OptionError("prompts have no effect: this server's words are encoded already; leave them out")
        return self.known.embeddings(question.classes, background=question.options.get("background") is True)

    async def _encode(self, image: bytes, window: WindowMode, phrases: int, turn: Turn) -> ImageEncoding:
        pixels = await self.queue.run("read", turn, load_image, image, max_pixels=self.limits.pixels)
        self._check_scores(size_of(pixels), phrases)
        return await self.queue.run("encode", turn, self.segmenter.encode_image, pixels, window)

    async def _answer(
        self, encoding: ImageEncoding, classes: ClassEmbeddings, question: Question, turn: Turn
    ) -> Answer:
        def segment() -> Segmentation:
            return self.segmenter.segment(encoding, classes, **question.options)

        result = await self.queue.run("segment", turn, segment)
        content = await self.queue.run("answer", turn, content_of, result, question.form)
        return Answer(content, question.form.media_type)

    def _check_scores(self, size: tuple[int, int], phrases: int) -> None:
        """Raises ImageSizeError where so many pixels and phrases would keep all others waiting."""
        height, width = size
        if height * width * phrases > self.limits.scores:
            raise ImageSizeError(
                f"{width} x {height} pixels and {phrases} phrases are more work than the limit of "
                f"{self.limits.scores} pixels x phrases; send a smaller picture or fewer words"
            )
