"""The runtime's front door: open a bundle, encode words and images, segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack, get_args, overload

from t2d_runtime.batches import batch_results, check_images
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS, Manifest
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BundleError, OptionError, T2DError
from t2d_runtime.frame_stages import FrameStages
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.reading import ImageLike, load_image
from t2d_runtime.image.windows import WindowMode
from t2d_runtime.masks.phrases import segment_classes
from t2d_runtime.masks.postprocess import ScoreFilter, label_map_of
from t2d_runtime.masks.score_planes import ScorePlanes
from t2d_runtime.opening import OpenOptions, Postprocess, open_parts, require_proven_parts
from t2d_runtime.results.options import (
    SegmentationSettings,
    SegmentOptions,
    check_classes,
    encoded_settings,
    label_names,
    resolve_options,
)
from t2d_runtime.results.origin import origin_of
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.kinds import SourceLike, sources_of
from t2d_runtime.streams.settings import Errors, StreamOptions, split_options
from t2d_runtime.streams.stream import FrameStream
from t2d_runtime.words.class_list import ClassList, ClassNames
from t2d_runtime.words.vocabulary import ClassEmbeddings

if TYPE_CHECKING:
    from t2d_runtime.masks.cuda.postprocess import DeviceMasks


class Segmenter:
    """Open-vocabulary segmentation with one bundle on one backend. Safe to call from several threads."""

    def __init__(self, encoders: Encoders, device_masks: DeviceMasks | None = None) -> None:
        self.encoders = encoders
        self._device_masks = device_masks

    @classmethod
    def open(
        cls,
        bundle: str | PathLike[str],
        *,
        backend: str = "auto",
        precision: str = "fp32",
        num_threads: int | None = None,
        postprocess: Postprocess = "host",
        load_text_encoder: bool = False,
    ) -> Segmenter:
        """Open a bundle and load its image encoder.

        `bundle`: its folder, or hf://ORG/BUNDLE[@REVISION]. From a hub only the files that the precision needs are
        downloaded, once, into the user's cache.

        `backend`: auto, or a name of `t2d_runtime.backends.names`. `precision`: fp32 (the reference's masks), fp16,
        bf16, int8, or "fast", the fastest that passes its gates here (with auto, on any installed backend).
        `num_threads`: None takes T2D_NUM_THREADS, or a container's CPU quota, or lets the engine choose.
        `postprocess`: "host", or "device" to compute scores, cleaning, PAMR and labels on GPU 0, with any backend. That
        needs cuda-python and NVRTC and was not run on a GPU yet; `score_planes` works on the host all the same.
        `load_text_encoder`: False loads the text encoder with the first new word; True loads it beside the image
        encoder, for a faster start of a program that encodes words.
        An engine that is new on this machine runs the bundle's self-test, and so does a GPU that computes masks; the
        verdicts are remembered.
        Raises BundleError, BundleNotFoundError, BackendUnavailableError, BackendError, SelfTestError, OptionError; and
        from a hub HubError and OutputError.
        """
        segmenter = cls.open_unproven(
            bundle,
            backend=backend,
            precision=precision,
            num_threads=num_threads,
            postprocess=postprocess,
            load_text_encoder=load_text_encoder,
        )
        try:
            require_proven_parts(segmenter.encoders, segmenter._device_masks)
        except BaseException:
            segmenter.close()  # a GPU's memory would stay taken
            raise
        return segmenter

    @classmethod
    def open_unproven(cls, bundle: str | PathLike[str], **options: Unpack[OpenOptions]) -> Segmenter:
        """Open a bundle as `open` does, but without requiring the self-tests to pass, in order to show what fails."""
        return cls(*open_parts(bundle, **options))

    @property
    def bundle(self) -> Bundle:
        """The opened bundle."""
        return self.encoders.bundle

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def backend_name(self) -> str:
        """Name of the opened backend."""
        return self.encoders.backend.name

    @property
    def precision(self) -> str:
        """Precision that the encoders run in."""
        return self.encoders.precision

    @property
    def postprocess(self) -> Postprocess:
        """Place where features become labels."""
        return "host" if self._device_masks is None else "device"

    @property
    def engine_description(self) -> str:
        """Engine, version, device and driver."""
        return str(self.encoders.backend.identity)

    @property
    def vocabulary_digest(self) -> str:
        """Identity of the text encoder. A vocabulary works with every bundle of the same digest."""
        return self.bundle.vocabulary_digest

    @property
    def model_digest(self) -> str:
        """Identity of the image encoder. An encoded image works with every bundle of the same digest."""
        return self.bundle.model_digest

    def close(self) -> None:
        """Free the engines and the GPU's memory. Calls that run end as usual, later ones raise ClosedError.

        `with Segmenter.open(...) as segmenter:` closes at its end. A second close does nothing; a copy or pickle of a
        closed Segmenter opens the bundle again.
        """
        self.encoders.close()
        if self._device_masks is not None:
            self._device_masks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Segmenter], tuple[object, ...]]:
        """Copies and pickles open the same bundle again, in the process where they are unpickled."""
        encoders = self.encoders
        options: OpenOptions = {
            "backend": self.backend_name,
            "precision": encoders.precision,
            "num_threads": encoders.num_threads,
            "postprocess": self.postprocess,
        }
        return _reopened, (str(self.bundle.folder), self.manifest.digest, options)

    def __repr__(self) -> str:
        return f"Segmenter({str(self.bundle.folder)!r}: {self.manifest.model.backbone}, {self.encoders})"

    def encode_classes(
        self,
        classes: ClassNames | ClassList,
        prompts: str | Iterable[str] = DEFAULT_PROMPTS,
        *,
        negatives: Iterable[str] = (),
        thresholds: Mapping[str, float] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ClassEmbeddings:
        """Encode classes: names that are their own phrases, or a mapping from names to one phrase or several.

        A class of several phrases takes their maximum at each pixel. Phrases of `negatives` compete too; their pixels
        become label 0, background. `thresholds`: name -> the score from 0 to 1 that the class must exceed to win over
        background; they need `background=True`. `prompts`: the name of a set, or templates with {} for the phrase.
        Phrases seen before are not encoded again, and do not wait while other threads encode new ones. `progress` is
        called with (phrases done, phrases in all) during encoding.
        Raises ClassNamesError (none, blank, above 1,000 characters, given twice, a phrase in two classes or also a
        negative) and OptionError (an unknown set, a template without {}, a threshold of no class or outside its range).
        """
        return self.encoders.encode_classes(
            classes, prompts, negatives=negatives, thresholds=thresholds, progress=progress
        )

    def release_text_encoder(self) -> None:
        """Free the text encoder's memory; the next new word loads it again."""
        self.encoders.release_text_encoder()

    def encode_image(self, image: ImageLike, window: WindowMode = "slide") -> ImageEncoding:
        """Encode an image, in any form that `load_image` takes. This is the expensive part of a segmentation.

        `window`: "slide" (as published) or "whole" (the resized image as one window).
        Opened with postprocess="device" on a backend of the GPU, the features stay in the GPU's memory, 3 MB a window
        of ViT-B, as long as the encoding lives; its `patch_tokens` and `cls_attention` copy them when first read.
        Raises ImageError, ImageNotFoundError, OptionError, BackendError.
        """
        return self.encoders.encode_image(image, window, on_device=self._device_masks is not None)

    def segment(
        self,
        image: ImageLike | ImageEncoding,
        classes: ClassEmbeddings | ClassNames,
        **options: Unpack[SegmentOptions],
    ) -> Segmentation:
        """Label every pixel with the class whose words fit best, or with background.

        `classes`: embeddings, or classes in any form that `encode_classes` takes, encoded with the default prompts.

        Options, and their defaults; an option left out, or None, has its default:
        `background` (False): label 0 where no class exceeds `threshold` (0 to 1).
        `cleaning` (as `background`): True or "official" as released, "paper" as in Eq. 8-10, False off;
        `cleaning_weight` is its lambda, from 0.
        `refine` (False): PAMR; PamrSettings for other iterations and dilations than the published ones.
        `window` ("slide"): "slide" as published, "whole" the resized image as one window; an encoding has its own.
        `keep_scores` (False): keep the scores (N,H,W) in the result.
        `keep_confidence` (False): keep the winning score of each pixel (H,W), and mean scores of labels.

        Raises OptionError (also for an encoding of another bundle, and an option without effect), VocabularyError
        (embeddings of another bundle), ClassNamesError (more than 65,536 labels), and the errors of `encode_image`.
        """
        encoding, classes, settings = self._prepare(image, classes, options)
        return self.label_encoding(encoding, classes, settings, options)

    def label_encoding(
        self,
        encoding: ImageEncoding,
        classes: ClassEmbeddings,
        settings: SegmentationSettings,
        options: SegmentOptions,
        score_filter: ScoreFilter | None = None,
    ) -> Segmentation:
        """Label an encoded image by the settings that `check_options` made of the options; `segment` does both."""
        labels, scores, confidence = segment_classes(
            encoding,
            classes,
            settings,
            keep_scores=bool(options.get("keep_scores")),
            keep_confidence=bool(options.get("keep_confidence")),
            score_filter=score_filter,
            num_threads=self.encoders.num_threads,
            label_maps=label_map_of if self._device_masks is None else self._device_masks.label_map_of,
        )
        origin = origin_of(encoding.model_digest, encoding.engine, classes, self.manifest.prompt_sets)
        names, negatives = label_names(classes, settings), classes.negatives
        return Segmentation(encoding.image, labels, names, scores, settings, negatives, confidence, origin)

    @overload
    def segment_batch(
        self,
        images: Iterable[ImageLike],
        classes: ClassEmbeddings | ClassNames,
        *,
        errors: Literal["raise"] = "raise",
        **options: Unpack[SegmentOptions],
    ) -> Iterator[Segmentation]: ...

    @overload
    def segment_batch(
        self,
        images: Iterable[ImageLike],
        classes: ClassEmbeddings | ClassNames,
        *,
        errors: Literal["yield"],
        **options: Unpack[SegmentOptions],
    ) -> Iterator[Segmentation | T2DError]: ...

    def segment_batch(
        self,
        images: Iterable[ImageLike],
        classes: ClassEmbeddings | ClassNames,
        *,
        errors: Errors = "raise",
        **options: Unpack[SegmentOptions],
    ) -> Iterator[Segmentation | T2DError]:
        """Segment many images, with the options and results of `segment`; yields results in order, as they are ready.

        While one image is encoded, the next is read and the one before is segmented. `images` may be a generator: it
        runs in a thread of its own, a few images ahead, and an error that it raises comes after the results before it.
        `errors`: where an image cannot be segmented, "raise" raises the error and ends the iteration; "yield" gives the
        error instead of a result and goes on. The error names the image's index, from 0, and its file if it has one.
        Options and classes raise the errors of `segment` at once.
        """
        check_images(images)
        if errors not in get_args(Errors):
            raise OptionError(f"errors is {errors!r}, expected one of {list(get_args(Errors))}")
        settings = self._settings(options)
        classes = self.embeddings_of(classes)
        check_classes(classes, self.bundle, background=settings.background)
        of_encoding: SegmentOptions = {**options, "window": None}
        encode = partial(self.encode_image, window=settings.window)
        stages = (load_image, encode, partial(self.segment, classes=classes, **of_encoding))
        return batch_results(images, stages, raise_errors=errors == "raise")

    @overload
    def stream(
        self,
        source: SourceLike,
        classes: ClassEmbeddings | ClassNames,
        *,
        errors: Literal["raise"] = "raise",
        **options: Unpack[StreamOptions],
    ) -> FrameStream[Frame]: ...

    @overload
    def stream(
        self,
        source: SourceLike,
        classes: ClassEmbeddings | ClassNames,
        *,
        errors: Literal["yield"],
        **options: Unpack[StreamOptions],
    ) -> FrameStream[Frame | T2DError]: ...

    def stream(
        self,
        source: SourceLike,
        classes: ClassEmbeddings | ClassNames,
        *,
        errors: Errors = "raise",
        **options: Unpack[StreamOptions],
    ) -> FrameStream[Frame | T2DError]:
        """Segment the frames of a video, a camera, a folder or another source; yields them as they are ready.

        `source`: a picture, a video file, a folder, a pattern such as "*.mp4", http:// or https://, rtsp://, a camera's
        number, an iterable of images, or a list of these, whose frames then come in turn. Files lose no frame; of a
        live source the newest frame is segmented, and frames before it are dropped and counted.
        `errors` as in `segment_batch`. `options`: those of `segment`, and those of `StreamOptions`.
        The stream's `set_classes` changes words and options between frames.
        Closing the iterator frees threads, files and cameras.
        Raises the errors of `segment` for options and classes at once, ImageNotFoundError for a missing file, and
        MissingPackageError where PyAV is needed and missing.
        """
        from t2d_runtime.streams.running import stream_frames  # and its sources, which no other call needs

        given = sources_of(source)
        settings, mask_options = split_options(options, given, errors)
        if settings.smoothing and self._device_masks is not None:
            from t2d_runtime.masks.cuda.postprocess import HOST_ALONE

            raise OptionError(HOST_ALONE)
        classes = self.embeddings_of(classes)
        stages = FrameStages(self, classes, self.check_options(classes, **mask_options), mask_options)
        return stream_frames(given, stages, settings, errors)

    def score_planes(
        self,
        image: ImageLike | ImageEncoding,
        classes: ClassEmbeddings | ClassNames,
        **options: Unpack[SegmentOptions],
    ) -> ScorePlanes:
        """The scores of `segment` with `keep_scores`, one plane after the other, for scores larger than the memory.

        Iterating computes one plane (H,W) float32, 0 to 1, for each of the N classes without background. `shape` is
        (N,H,W). Arguments and errors are those of `segment`.
        """
        encoding, classes, settings = self._prepare(image, classes, options)
        return ScorePlanes(encoding, classes, settings, self.encoders.num_threads)

    def check_options(self, classes: ClassEmbeddings, **options: Unpack[SegmentOptions]) -> SegmentationSettings:
        """The settings for an image from the options of `segment`. Raises its errors for options and classes."""
        settings = self._settings(options)
        check_classes(classes, self.bundle, background=settings.background)
        return settings

    def _prepare(
        self, image: ImageLike | ImageEncoding, classes: ClassEmbeddings | ClassNames, options: SegmentOptions
    ) -> tuple[ImageEncoding, ClassEmbeddings, SegmentationSettings]:
        """Checks options and classes, then encodes what is not encoded yet."""
        settings = self._settings(options, image if isinstance(image, ImageEncoding) else None)
        classes = self.embeddings_of(classes)
        check_classes(classes, self.bundle, background=settings.background)
        encoding = image if isinstance(image, ImageEncoding) else self.encode_image(image, settings.window)
        return encoding, classes, settings

    def embeddings_of(self, classes: ClassEmbeddings | ClassNames) -> ClassEmbeddings:
        """Embeddings as they are, or those of words with the default prompts. Raises as `encode_classes`."""
        return classes if isinstance(classes, ClassEmbeddings) else self.encode_classes(classes)

    def _settings(self, options: SegmentOptions, encoding: ImageEncoding | None = None) -> SegmentationSettings:
        """Settings from options and manifest; an encoding has its own window and engine. Raises OptionError."""
        self.encoders.check_open()
        defaults, window = self.manifest.defaults, options.get("window")
        if encoding is not None:
            return encoded_settings(options, defaults, encoding, self.model_digest)
        window = "slide" if window is None else window
        return resolve_options(options, defaults, window=window, backend=self.backend_name, precision=self.precision)


def _reopened(bundle: str, digest: str, options: OpenOptions) -> Segmenter:
    """The Segmenter of a pickle. Raises the errors of `Segmenter.open`, and BundleError for another bundle."""
    segmenter = Segmenter.open(bundle, **options)
    if segmenter.manifest.digest != digest:
        raise BundleError(f"{bundle} is another bundle than when the Segmenter was pickled; open it again")
    return segmenter
