"""Compares every stage of the reference and of an exported bundle with golden files of the authors' released code.

Float32 must meet the tolerances of every stage, a lower precision its gates.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.blocks import Table
from benchmarks.results_file import write_results
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.bundle.manifest import StageParity
from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.errors import DataError, WeightsNotFoundError
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.windows import size_of
from t2d_runtime.proof.parity import LABEL_MARGIN, SCORE_TOLERANCE, Judge, with_background
from t2d_runtime.segmenter import Segmenter

if TYPE_CHECKING:
    from benchmarks.parity.golden import Golden
    from benchmarks.parity.subjects import Encoded, Subject

RESIZED_SHARE = 1e-3
"""Share of pixel values that may be one level off OpenCV's after our resize."""

FROM_IMAGE_TOLERANCE = 1e-4
"""Tolerance of stitched scores from the original image. A pixel one level off moves them by up to 5e-5."""

ANY_LABELS = 0.0
"""Gate of labels below float32, which are only reported here: with random weights the two best scores of a pixel differ
by a few thousandths. `benchmarks engines` judges the labels of a trained model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks parity`."""
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR", help="folder of golden .npz files")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of published projections; default: DIR/../weights"
    )
    parser.add_argument(
        "--backend", default="onnxruntime", metavar="LIST", help="engines for the bundle; default: onnxruntime"
    )
    parser.add_argument("--precision", default="fp32", metavar="LIST", help="any of fp32,fp16,bf16,int8; default: fp32")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Print a table of stages and files; the status is 1 where a stage is out of tolerance."""
    from benchmarks.parity.golden import read_golden

    paths = [path for path in sorted(args.golden.glob("*.npz")) if path.stem != "training"]
    if not paths:
        raise DataError(f"{args.golden} holds no golden .npz files")
    weights = args.weights or args.golden.parent / "weights"
    backends, precisions = args.backend.split(","), args.precision.split(",")
    table: dict[str, dict[str, StageParity]] = {}
    for path in tqdm(paths, desc="golden files", unit="file", disable=None, leave=False):
        golden = read_golden(path)
        for subject in subjects_of(golden, weights, backends, precisions):
            table[f"{subject.name}, {golden.name}"] = {stage.stage: stage for stage in compare(golden, subject)}
    print_table(table)
    if args.json is not None:
        figures = {column: [asdict(stage) for stage in stages.values()] for column, stages in table.items()}
        write_results(args.json, "parity", figures)
    failed = [f"{column}: {s.stage}" for column, stages in table.items() for s in stages.values() if not s.passed]
    print("FAILED: " + "; ".join(failed) if failed else "every stage of every file is within its tolerance")
    return FAILED_CHECK if failed else 0


def subjects_of(
    golden: Golden, weights: Path, backends: Sequence[str], precisions: Sequence[str] = ("fp32",)
) -> Iterator[Subject]:
    """The reference with a golden file's weights, then the bundle exported from them.

    The bundle runs on every backend, in each of its precisions. Precisions that the export left out are skipped.
    """
    from benchmarks.parity.golden import write_weights
    from benchmarks.parity.subjects import BundleSubject, ReferenceSubject
    from t2d_export.export import ExportSettings, export_bundle

    size = golden.meta["input_size"]
    with tempfile.TemporaryDirectory() as folder:
        files = write_weights(golden, Path(folder))
        if not golden.has_random_projection:
            published = weights / f"{golden.meta['projection']}.pth"
            if not published.is_file():
                raise WeightsNotFoundError(f"{golden.name} needs the published projection {published}; see --weights")
            files["projection"] = str(published)
        settings = ExportSettings(
            backbone=golden.backbone,
            backbone_weights=files["backbone_weights"],
            text_weights=files["text_weights"],
            projection=files["projection"],
            input_size=(size, size),
            text_activation="quick_gelu",  # that of the authors' text tower
            precisions=tuple(dict.fromkeys(("fp32", *precisions))),
        )
        yield ReferenceSubject(settings.load_reference())
        bundle = Path(folder) / "bundle"
        export_bundle(settings, bundle)
        for name in backends:
            runs = open_backend(name).precisions(Bundle.open(bundle))
            for precision in (precision for precision in precisions if precision in runs):
                yield BundleSubject(Segmenter.open(bundle, backend=name, precision=precision))


def compare(golden: Golden, subject: Subject) -> Iterator[StageParity]:
    """All stages of a golden file in order, each computed from the subject's own last one."""
    return _Comparison(golden, subject).stages()


class _Comparison:
    """Comparison of a subject's stages with a golden file's."""

    def __init__(self, golden: Golden, subject: Subject) -> None:
        self._golden = golden
        self._arrays = golden.arrays
        self._subject = subject
        self._judge = Judge(subject.gates and replace(subject.gates, label_agreement=ANY_LABELS))
        self._text_embeds = subject.text_embeds(_cut(golden.arrays["tokens"]))

    def stages(self) -> Iterator[StageParity]:
        """Stages of the text, the image encoder, one window, and the whole image."""
        yield from self._text_stages()
        window = self._subject.encode(self._golden.window[None]).window(0)
        yield from self._encoder_stages(window)
        yield from self._window_stages(window)
        yield from self._slide_stages()

    def _text_stages(self) -> Iterator[StageParity]:
        if "clip_text" in self._arrays:
            expected = self._arrays["clip_text"]
            shown = _cut(self._arrays["tokens"][:, : expected.shape[1]])
            features = self._subject.text_features(shown.reshape(-1, shown.shape[-1]))
            if features is not None:
                yield self._judge.features("clip_text", expected, features.reshape(expected.shape))
        yield self._judge.features("text_embeds", self._arrays["text_embeds"], self._text_embeds)

    def _encoder_stages(self, window: Encoded) -> Iterator[StageParity]:
        arrays, every, judge = self._arrays, self._golden.sampling, self._judge
        yield judge.features("pixel_values", arrays["pixel_values_sample"], window.pixel_values[:, ::37, ::37])
        sample = window.patch_tokens[:: every.patches, :: every.channels]
        yield judge.features("patch_tokens", arrays["patch_tokens_sample"], sample)
        yield judge.features("cls_attention", arrays["cls_attention_logits"], window.cls_attention)
        yield judge.features("cls_token", arrays["cls_token"], window.cls_token)

    def _window_stages(self, window: Encoded) -> Iterator[StageParity]:
        golden, arrays, subject, judge = self._golden, self._arrays, self._subject, self._judge
        similarity = subject.similarity(window.patch_tokens, self._text_embeds)
        scores = subject.scores(similarity)
        cleaned = subject.clean(window, similarity, self._text_embeds, golden.meta["lambda_bg"])
        shape = arrays["similarity"].shape
        yield judge.scores("similarity", arrays["similarity"], similarity.reshape(shape))
        yield judge.scores("scores", arrays["scores"], scores.reshape(shape))
        yield judge.scores("scores_cleaned", arrays["scores_cleaned"], cleaned.reshape(shape))
        step = golden.sampling.window_pixels
        for background, patches in ((0, scores), (1, cleaned)):
            planes = subject.upsample(patches.reshape(shape), size_of(golden.window))
            for pamr in (0, 1):
                stage = f"mask_bg{background}_pamr{pamr}"
                planes = subject.refine(golden.window, planes) if pamr else planes
                yield judge.scores(stage, arrays[stage], planes[:, ::step, ::step])
                yield self._labels(stage, self._with_background(planes) if background else planes)

    def _slide_stages(self) -> Iterator[StageParity]:
        """Stitched scores with cleaning, from OpenCV's resized image and from the original one."""
        golden, step = self._golden, self._golden.sampling.image_pixels
        resized = resize(golden.image, size_of(golden.resized))
        levels = np.abs(resized.astype(np.int16) - golden.resized)
        off = float((levels > 0).mean()) if levels.max() <= 1 else 1.0
        yield StageParity("resized", True, off, RESIZED_SHARE, None, None, None, None, None, off <= RESIZED_SHARE)
        for stage, pamr in (("slide", False), ("slide_pamr", True)):
            if f"{stage}_probs_sample" not in self._arrays:
                continue
            expected = self._arrays[f"{stage}_probs_sample"]
            for source, pixels in (("", golden.resized), ("_from_image", resized)):
                scores = self._subject.segment(
                    golden.image, pixels, self._text_embeds, golden.meta["lambda_bg"], refine=pamr
                )
                ranked = self._with_background(scores)
                tolerance = FROM_IMAGE_TOLERANCE if source else SCORE_TOLERANCE
                yield self._judge.scores(stage + source, expected, ranked[:, ::step, ::step], tolerance)
                if not source:
                    yield self._labels(stage, ranked)

    def _with_background(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return with_background(planes, self._golden.meta["background_threshold"])

    def _labels(self, stage: str, ranked: NDArray[np.float32]) -> StageParity:
        """Compare the arg max of scores with `<stage>_labels`, at pixels where the golden file is certain."""
        margin = self._golden.certain(stage, LABEL_MARGIN).astype(np.float32)
        return self._judge.labels(f"{stage}_labels", self._arrays[f"{stage}_labels"], ranked.argmax(axis=0), margin)


def _cut(tokens: NDArray[Any]) -> NDArray[np.int64]:
    """Token ids (N,T,77), cut to the longest prompt. Tokens after the end token change nothing."""
    longest = int(tokens.argmax(axis=-1).max()) + 1
    return np.ascontiguousarray(tokens[..., :longest], dtype=np.int64)


def print_table(table: dict[str, dict[str, StageParity]]) -> None:
    """Print stages in rows and files in columns: the largest difference, or the share of equal labels. Features below
    float32 have the relative norm of the difference."""
    for number, column in enumerate(table, start=1):
        print(f"({number}) {column}")
    stages = dict.fromkeys(stage for column in table.values() for stage in column)
    rows = [(stage, *(_cell(column.get(stage)) for column in table.values())) for stage in stages]
    print(Table(("", *(f"({number})" for number in range(1, len(table) + 1))), rows))


def _cell(stage: StageParity | None) -> str:
    if stage is None:
        return "-"
    figure = f"{getattr(stage, stage.measure):.1e}" if stage.label_agreement is None else f"{stage.label_agreement:.3%}"
    return figure if stage.passed else f"!{figure}"
