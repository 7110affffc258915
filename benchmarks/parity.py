"""Every stage of the reference and of an exported bundle against golden files of the authors' released code.

Float32 is held to the tolerances of every stage; a precision below it to its gates.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.cli import FAILED_CHECK
from t2d_runtime.errors import DataError, WeightsNotFoundError
from t2d_runtime.manifest import StageParity
from t2d_runtime.parity import (
    LABEL_MARGIN,
    SCORE_TOLERANCE,
    TOKEN_TOLERANCE,
    PrecisionGates,
    compare_labels,
    compare_values,
    gate_labels,
    gate_values,
)

if TYPE_CHECKING:
    from benchmarks.golden import Golden
    from benchmarks.subjects import Encoded, Subject
    from t2d_runtime.windows import Window

RESIZED_SHARE = 1e-3
"""Share of pixel values that may be one level off OpenCV's after our resize."""

FROM_IMAGE_TOLERANCE = 1e-4
"""Stitched scores from the original image: a pixel one level off moves them by up to 5e-5."""

ANY_LABELS = 0.0
"""Below float32 the golden files judge features, and labels are only reported: with random weights the two best scores
of a pixel differ by a few thousandths. A trained model's labels are judged by `benchmarks engines`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m benchmarks parity`."""
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR", help="folder of golden .npz files")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of published projections; default: DIR/../weights"
    )
    parser.add_argument("--backend", default="onnxruntime", metavar="LIST", help="of the bundle; default: onnxruntime")
    parser.add_argument("--precision", default="fp32", metavar="LIST", help="of fp32,fp16,bf16,int8; default: fp32")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Print a table of stages x files; status 1 where a stage is out of tolerance."""
    from tqdm import tqdm

    from benchmarks.golden import read_golden
    from benchmarks.results_file import write_results

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

    On every backend, in each of the precisions that it runs. A precision that the export left out is not among them.
    """
    from benchmarks.golden import write_weights
    from benchmarks.subjects import BundleSubject, ReferenceSubject
    from t2d_export.export import ExportSettings, export_bundle
    from t2d_runtime.backends.registry import open_backend
    from t2d_runtime.bundle import Bundle
    from t2d_runtime.segmenter import Segmenter

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
    """All stages of a golden file in order, each computed from the subject's own previous one."""
    judge = _Judge(golden, subject.gates)
    text_embeds = subject.text_embeds(_cut(golden.arrays["tokens"]))
    yield from _text_stages(judge, subject, text_embeds)
    window = subject.encode(golden.window[None]).window(0)
    yield from _encoder_stages(judge, window)
    yield from _window_stages(judge, subject, window, text_embeds)
    yield from _slide_stages(judge, subject, text_embeds)


@dataclass(frozen=True)
class _Judge:
    """Compares stages with a golden file: by the tolerances of float32, or by the gates of a lower precision."""

    golden: Golden
    gates: PrecisionGates | None

    def features(self, stage: str, expected: NDArray[Any], got: NDArray[Any]) -> StageParity:
        """What an encoder gives."""
        compared = compare_values(stage, expected, got, tolerance=TOKEN_TOLERANCE, relative=True)
        return gate_values(compared, self.gates.relative_frobenius) if self.gates else compared

    def scores(
        self, stage: str, expected: NDArray[Any], got: NDArray[Any], tolerance: float = SCORE_TOLERANCE
    ) -> StageParity:
        """Cosines and scores; `tolerance` is float32's."""
        limit = self.gates.scores if self.gates else tolerance
        return compare_values(stage, expected, got, tolerance=limit, relative=False)

    def labels(self, stage: str, ranked: NDArray[np.float32]) -> StageParity:
        """Arg max of scores with `<stage>_labels`."""
        certain = self.golden.certain(stage, LABEL_MARGIN).astype(np.float32)
        expected = self.golden.arrays[f"{stage}_labels"]
        compared = compare_labels(f"{stage}_labels", expected, ranked.argmax(axis=0), certain)
        return gate_labels(compared, ANY_LABELS) if self.gates else compared


def _text_stages(judge: _Judge, subject: Subject, text_embeds: NDArray[Any]) -> Iterator[StageParity]:
    arrays = judge.golden.arrays
    expected = arrays["clip_text"]
    shown = arrays["tokens"][:, : expected.shape[1]]
    features = subject.text_features(_cut(shown).reshape(-1, _cut(shown).shape[-1]))
    if features is not None:
        yield judge.features("clip_text", expected, features.reshape(expected.shape))
    yield judge.features("text_embeds", arrays["text_embeds"], text_embeds)


def _encoder_stages(judge: _Judge, window: Encoded) -> Iterator[StageParity]:
    arrays, every = judge.golden.arrays, judge.golden.sampling
    yield judge.features("pixel_values", arrays["pixel_values_sample"], window.pixel_values[:, ::37, ::37])
    sample = window.patch_tokens[:: every.patches, :: every.channels]
    yield judge.features("patch_tokens", arrays["patch_tokens_sample"], sample)
    yield judge.features("cls_attention", arrays["cls_attention_logits"], window.cls_attention)
    yield judge.features("cls_token", arrays["cls_token"], window.cls_token)


def _window_stages(
    judge: _Judge, subject: Subject, window: Encoded, text_embeds: NDArray[np.float32]
) -> Iterator[StageParity]:
    golden = judge.golden
    arrays, step = golden.arrays, golden.sampling.window_pixels
    similarity = subject.similarity(window.patch_tokens, text_embeds)
    scores = subject.scores(similarity)
    cleaned = subject.clean(window, similarity, text_embeds, golden.meta["lambda_bg"])
    shape = arrays["similarity"].shape
    yield judge.scores("similarity", arrays["similarity"], similarity.reshape(shape))
    yield judge.scores("scores", arrays["scores"], scores.reshape(shape))
    yield judge.scores("scores_cleaned", arrays["scores_cleaned"], cleaned.reshape(shape))
    for background, patches in ((0, scores), (1, cleaned)):
        size = (golden.window.shape[0], golden.window.shape[1])
        planes = subject.upsample(patches.reshape(shape), size, align_corners=True)
        for pamr in (0, 1):
            stage = f"mask_bg{background}_pamr{pamr}"
            planes = subject.refine(golden.window, planes) if pamr else planes
            yield judge.scores(stage, arrays[stage], planes[:, ::step, ::step])
            yield judge.labels(stage, _with_background(planes, golden) if background else planes)


def _slide_stages(judge: _Judge, subject: Subject, text_embeds: NDArray[np.float32]) -> Iterator[StageParity]:
    """Stitched scores with cleaning, from OpenCV's resized image and from the original one."""
    from t2d_runtime.preprocess import resize

    golden = judge.golden
    resized = resize(golden.image, (golden.resized.shape[0], golden.resized.shape[1]))
    levels = np.abs(resized.astype(np.int16) - golden.resized)
    off = float((levels > 0).mean()) if levels.max() <= 1 else 1.0
    yield StageParity("resized", True, off, RESIZED_SHARE, None, None, None, None, None, off <= RESIZED_SHARE)
    for stage, pamr in (("slide", False), ("slide_pamr", True)):
        if f"{stage}_probs_sample" not in golden.arrays:
            continue
        for source, pixels in (("", golden.resized), ("_from_image", resized)):
            stitched = _with_background(_stitched(golden, subject, text_embeds, pixels, pamr=pamr), golden)
            step = golden.sampling.image_pixels
            expected, got = golden.arrays[f"{stage}_probs_sample"], stitched[:, ::step, ::step]
            yield judge.scores(stage + source, expected, got, FROM_IMAGE_TOLERANCE if source else SCORE_TOLERANCE)
            if not source:
                yield judge.labels(stage, stitched)


def _stitched(
    golden: Golden, subject: Subject, text_embeds: NDArray[np.float32], pixels: NDArray[np.uint8], *, pamr: bool
) -> NDArray[np.float32]:
    from t2d_export.reference import PUBLISHED_WINDOWS
    from t2d_runtime.windows import cut_windows, stitch, window_boxes

    resized_size = (pixels.shape[0], pixels.shape[1])
    boxes: tuple[Window, ...] = window_boxes(resized_size, PUBLISHED_WINDOWS)
    crops = cut_windows(pixels, boxes)
    encoded = subject.encode(crops)
    grid = golden.arrays["similarity"].shape

    def planes() -> Iterator[NDArray[np.float32]]:
        for i, crop in enumerate(crops):
            window = encoded.window(i)
            similarity = subject.similarity(window.patch_tokens, text_embeds)
            cleaned = subject.clean(window, similarity, text_embeds, golden.meta["lambda_bg"])
            upsampled = subject.upsample(cleaned.reshape(grid), (crop.shape[0], crop.shape[1]), align_corners=True)
            yield subject.refine(crop, upsampled) if pamr else upsampled

    stitched = stitch(planes(), boxes, (len(text_embeds), *resized_size))
    return subject.upsample(stitched, (golden.image.shape[0], golden.image.shape[1]), align_corners=False)


def _with_background(planes: NDArray[np.float32], golden: Golden) -> NDArray[np.float32]:
    background = np.full((1, *planes.shape[1:]), golden.meta["background_threshold"], np.float32)
    return np.concatenate([background, planes])


def _cut(tokens: NDArray[Any]) -> NDArray[np.int64]:
    """Token ids (N,T,77) up to the longest prompt; what follows every end token changes nothing."""
    longest = int(tokens.argmax(axis=-1).max()) + 1
    return np.ascontiguousarray(tokens[..., :longest], dtype=np.int64)


def print_table(table: dict[str, dict[str, StageParity]]) -> None:
    """Stages in rows, files in columns: the largest difference (below float32, of features, the relative norm of the
    difference), or the share of equal labels."""
    columns = list(table)
    for number, column in enumerate(columns, start=1):
        print(f"({number}) {column}")
    stages = list(dict.fromkeys(stage for column in table.values() for stage in column))
    width = max(len(stage) for stage in stages)
    print(" " * width + "".join(f"{f'({number})':>12}" for number in range(1, len(columns) + 1)))
    for stage in stages:
        print(f"{stage:<{width}}" + "".join(f"{_cell(table[column].get(stage)):>12}" for column in columns))


def _cell(stage: StageParity | None) -> str:
    if stage is None:
        return "-"
    figure = f"{getattr(stage, stage.measure):.1e}" if stage.label_agreement is None else f"{stage.label_agreement:.3%}"
    return figure if stage.passed else f"!{figure}"
