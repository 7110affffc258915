"""The command `t2d`: segment images, precompute vocabularies, inspect and test bundles."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from t2d_runtime.commands.command_line import build_parser
from t2d_runtime.errors import OptionError, T2DError

if TYPE_CHECKING:
    from t2d_runtime.bundle.manifest import Manifest, StageParity
    from t2d_runtime.commands.segment_files import SegmentedFile
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.words.vocabulary import ClassEmbeddings

FAILED_CHECK = 1
BAD_INPUT = 2
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143
"""As shells report a program that SIGINT, SIGPIPE or SIGTERM ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failed check, 2 for bad input."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    return run_command("t2d", lambda: COMMANDS[args.command](args))


def run_command(program: str, command: Callable[[], int]) -> int:
    """Run a command; the project's errors become one line on stderr and exit status 2."""
    try:
        with _unwound_by_sigterm():
            status = command()
        sys.stdout.flush()
        return status
    except T2DError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as ending:
        if ending.code != TERMINATED:
            raise
        print(f"{program}: terminated", file=sys.stderr)
        return TERMINATED
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; what is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


@contextlib.contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """SIGTERM, as `timeout` and service managers send it, ends the block as Ctrl-C does: what is half-written goes."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread is told of signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_terminated(number: int, frame: object) -> NoReturn:
    # Quiet in worker processes too, which inherit it where they are forked.
    raise SystemExit(TERMINATED)


def _segment(args: argparse.Namespace) -> int:
    from PIL import Image

    from t2d_runtime.commands.segment_files import image_files, segment_files
    from t2d_runtime.errors import ImageError, ImageNotFoundError
    from t2d_runtime.results.outputs import check_distinct, check_formats

    # Raised, it becomes the one line that names the image.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    formats = check_formats(args.format.split(","))
    if args.threshold is not None and not args.background:
        raise OptionError("--threshold has no effect without --background; add that, or leave the threshold out")
    images = image_files(args.images, args.output)
    check_distinct(images)
    segmenter = _open(args)
    classes = _vocabulary(args, segmenter)
    start = time.perf_counter()
    files = segment_files(
        segmenter,
        images,
        classes,
        args.output,
        formats,
        background=args.background,
        cleaning=False if args.cleaning == "off" else args.cleaning,
        threshold=args.threshold,
        refine=args.refine,
        window=args.window,
        keep_scores="npz" in formats,
    )
    failed: list[T2DError] = []
    # Closed on an interrupt too: files being written are then whole or gone.
    with contextlib.closing(files):
        for number, done in enumerate(files, start=1):
            try:
                print_segmented(done.result(), f"[{number}/{len(images)}]")
            except (ImageError, ImageNotFoundError) as error:
                failed.append(error)
    if len(images) > 1:
        seconds = time.perf_counter() - start
        done_count = len(images) - len(failed)
        print(f"{done_count} images in {seconds:.1f} s: {done_count / seconds:.2f} images a second")
    if not failed:
        return 0
    if len(images) == 1:
        raise failed[0]
    raise ImageError(f"{len(failed)} of {len(images)} images could not be read: " + "; ".join(map(str, failed)))


def print_segmented(file: SegmentedFile, number: str) -> None:
    """What became of one image: its size, times, labels by area, and the files written."""
    print(
        f"{number} {file.image}: {file.summary['width']} x {file.summary['height']} pixels, "
        f"encoded in {file.encode_ms:.0f} ms, segmented in {file.segment_ms:.0f} ms"
    )
    labels = sorted(file.summary["labels"], key=lambda label: -label["pixels"])
    print("   ", ", ".join(f"{label['name']} {label['share']:.1%}" for label in labels if label["pixels"]))
    for written in file.written:
        print("   ", written)


def _classes(args: argparse.Namespace) -> int:
    from t2d_runtime.words.vocabulary_files import vocabulary_suffix

    vocabulary_suffix(args.output)
    segmenter = _open(args)
    classes = _vocabulary(args, segmenter)
    classes.save(args.output)
    print(f"{len(classes.names)} classes, {classes.vectors.shape[1]} wide: {args.output}")
    return 0


def _info(args: argparse.Namespace) -> int:
    from t2d_runtime.backends.names import BACKENDS, installed_module
    from t2d_runtime.backends.registry import opens
    from t2d_runtime.bundle.files import Bundle
    from t2d_runtime.commands.cpu_paths import cpu_paths

    bundle = Bundle.open(args.bundle)
    manifest = bundle.manifest
    model, windows = manifest.model, manifest.windows
    size = sum(record.size_bytes for record in manifest.files.values())
    failed = [stage.stage for stage in manifest.parity if not stage.passed]
    # TensorRT takes a second to open: that it is installed must do.
    quick = [name for name in BACKENDS if not name.startswith("tensorrt")]
    here = [name for name in quick if opens(name)]
    here += [f"{name} (if 't2d doctor' says so)" for name in BACKENDS if name not in quick and installed_module(name)]
    rows = {
        "bundle": f"{args.bundle}, {size / 2**20:.1f} MiB, schema {manifest.schema_version}, opset {manifest.opset}",
        "left off": ", ".join(bundle.left_off) or "nothing",
        "backbone": f"{model.backbone}: {model.embed_dim} wide, {model.num_heads} heads, patch {model.patch_size}",
        "projection": model.projection,
        "input size": f"{model.input_size[0]} x {model.input_size[1]} (height x width)",
        "windows": f"{windows.crop_size} with stride {windows.stride} on a short side of {windows.short_side}",
        "threshold": f"{manifest.defaults.threshold}, cleaning weight {manifest.defaults.cleaning_weight}",
        "prompt sets": ", ".join(f"{name} ({len(items)})" for name, items in manifest.prompt_sets.items()),
        "sources": ", ".join(f"{part}: {source.name}" for part, source in manifest.sources.items()),
        "exported by": ", ".join(f"{name} {version}" for name, version in manifest.exporter.items()),
        "parity": f"{len(manifest.parity)} stages, " + (f"out of tolerance: {failed}" if failed else "all within"),
        "backends here": ", ".join(here) or "no inference engine",
        **cpu_paths(),
    }
    for name, value in rows.items():
        print(f"{name:<15} {value}")
    print_matrix(manifest)
    return 0


def _selftest(args: argparse.Namespace) -> int:
    from t2d_runtime.proof.selftest import run_selftest
    from t2d_runtime.segmenter import Segmenter

    segmenter = Segmenter.open_unproven(
        args.bundle, backend=args.backend, precision=args.precision, num_threads=args.threads
    )
    stages = run_selftest(segmenter.encoders)
    print(f"{args.bundle} in {segmenter.precision} on {segmenter.engine_description}")
    return print_verdict(stages)


def _doctor(args: argparse.Namespace) -> int:
    from t2d_runtime.commands.doctor import examine

    for line in examine():
        print(line)
    return 0


def _bench(args: argparse.Namespace) -> int:
    from t2d_runtime.bench.bench_table import comparison, lines_of
    from t2d_runtime.bench.measure import BenchSettings, measure
    from t2d_runtime.words.class_files import parse_words

    if (args.bundle is None) == (args.compare is None):
        raise OptionError("expected a BUNDLE to measure, or --compare with two files that 't2d bench --json' wrote")
    if args.compare is not None:
        lines = comparison(*args.compare)
    else:
        settings = BenchSettings(
            bundle=args.bundle,
            image=args.image,
            class_names=None if args.classes is None else parse_words(args.classes).names,
            backend=args.backend,
            precision=args.precision,
            num_threads=args.threads,
            rounds=args.rounds,
            starts=args.starts,
        )
        result = measure(settings)
        lines = lines_of(result)
    for line in lines:
        print(line)
    if args.compare is None and args.json is not None:
        result.save(args.json)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "segment": _segment,
    "classes": _classes,
    "info": _info,
    "selftest": _selftest,
    "bench": _bench,
    "doctor": _doctor,
}


def print_matrix(manifest: Manifest) -> None:
    """Which precision runs on which backend, a line each, and why not."""
    for precision, verdicts in manifest.precisions.items():
        for backend, verdict in verdicts.items():
            reason = f" ({verdict.reason})" if verdict.reason else ""
            print(f"{'runs':<15} {precision} on {backend}: {verdict.status}{reason}")


def print_stages(stages: Sequence[StageParity]) -> None:
    """A table of stages: differences, tolerances, verdicts."""
    print(f"{'stage':<16} {'max diff':>9} {'rel. norm':>9} {'worst cos':>9} {'labels':>8}  must be")
    for s in stages:
        frobenius = "" if s.relative_frobenius is None else f"{s.relative_frobenius:.1e}"
        cosine = "" if s.cosine_worst is None else f"{s.cosine_worst:.6f}"
        agreement = "" if s.label_agreement is None else f"{s.label_agreement:.3%}"
        verdict = "" if s.passed else "  FAILED"
        limit = f"labels >= {s.tolerance:.1%}" if s.measure == "label_agreement" else ""
        limit = limit or ("rel. norm" if s.measure == "relative_frobenius" else "max diff") + f" <= {s.tolerance:.1e}"
        print(f"{s.stage:<16} {s.max_abs_diff:>9.1e} {frobenius:>9} {cosine:>9} {agreement:>8}  {limit}{verdict}")


def print_verdict(stages: Sequence[StageParity]) -> int:
    """The table, and where it fails; returns the exit status."""
    from t2d_runtime.bundle.manifest import first_failure

    print_stages(stages)
    failed = first_failure(stages)
    if failed is None:
        print("passed: every stage is the reference's within its tolerance")
        return 0
    print(f"FAILED: {failed.stage} is the first stage out of tolerance")
    return FAILED_CHECK


def _open(args: argparse.Namespace) -> Segmenter:
    from t2d_runtime.segmenter import Segmenter

    return Segmenter.open(args.bundle, backend=args.backend, precision=args.precision, num_threads=args.threads)


def _vocabulary(args: argparse.Namespace, segmenter: Segmenter) -> ClassEmbeddings:
    from tqdm import tqdm

    from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
    from t2d_runtime.words.class_files import parse_words, read_class_file
    from t2d_runtime.words.vocabulary import ClassEmbeddings

    if getattr(args, "vocabulary", None) is not None:
        if args.prompts is not None:
            raise OptionError("--prompts has no effect on the encoded words of a --vocabulary; give one of the two")
        return ClassEmbeddings.load(args.vocabulary)
    classes = parse_words(args.classes) if args.classes is not None else read_class_file(args.classes_file)
    prompts = args.prompts or DEFAULT_PROMPTS
    sets = segmenter.manifest.prompt_sets
    if prompts not in sets:
        if not Path(prompts).is_file():
            raise OptionError(
                f"--prompts {prompts}: no such file, nor a prompt set of the bundle; expected {', '.join(sets)}, "
                "or a file of templates with {}, one a line, such as 'a photo of a {}.'"
            )
        prompts = _read_lines(Path(prompts), OptionError)
    with tqdm(total=len(classes.all_phrases), unit="phrase", desc="encoding words", disable=None, leave=False) as bar:

        def advance(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        return segmenter.encode_classes(classes, prompts, progress=advance)


def _read_lines(path: Path, error: type[T2DError]) -> list[str]:
    """Lines of a UTF-8 text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"cannot read {path}: {reason}; expected a UTF-8 text file with one entry a line") from reason
    return [line for line in text.splitlines() if line.strip()]
