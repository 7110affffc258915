"""Runs the runtime under an emulator of another processor: its tests, and a comparison of a picture's labels.

It first checks that the emulated processor is the requested one, since otherwise the rest would prove nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.results_file import write_results
from t2d_runtime import Segmenter
from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.errors import BenchmarkError, DataError, OptionError
from t2d_runtime.proof.parity import LABEL_MARGIN, margin_of, with_background
from training.drawing.scene_masks import named_half
from training.drawing.scenes import draw_scenes

ROOT: Final = Path(__file__).resolve().parents[2]

SLOW: Final = (
    "test_bench",
    "test_cli",
    "test_fused",
    "test_proof",
    "test_segmenter",
    "test_vocabulary",
    "test_without_words",
)
"""Files of tests/runtime that take more than five minutes each under emulation; `--all` runs them too."""

FACTS: Final = """
import json, platform, subprocess, sys
from numpy._core import _multiarray_umath
from t2d_runtime.commands.cpu_paths import cpu_paths
from t2d_runtime.device.machine import machine_facts
units = [name for name, found in _multiarray_umath.__cpu_features__.items() if found]
facts = machine_facts()
versions = {"python": facts.python, **facts.versions}
child = [sys.executable, "-c", "import platform; print(platform.machine())"]
machines = [platform.machine(), subprocess.run(child, capture_output=True, text=True).stdout.strip()]
print(json.dumps({"machines": machines, "units": units, "versions": versions, "paths": cpu_paths()}))
"""
"""Prints the processor that a process and its child see, with the units that NumPy finds."""

T2D: Final = "import sys; from t2d_runtime.cli import main; sys.exit(main())"
"""The command `t2d`, which does not have to be installed."""


class TestFile(NamedTuple):
    """Numbers of a file's tests that passed, failed (or broke off) and were skipped."""

    file: str
    passed: int
    failed: int
    skipped: int
    seconds: float


@dataclass(frozen=True)
class Labels:
    """Labels of a drawn scene with background and PAMR, here and under emulation."""

    backend: str
    words: tuple[str, ...]
    size: tuple[int, int]
    pixels: int
    equal: int
    certain: int
    """Pixels whose two best scores differ by more than `margin`. Labels may differ only at other pixels."""
    certain_equal: int
    seconds: float
    """Time of the whole emulated command, with opening the bundle."""
    margin: float = LABEL_MARGIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks emulated`."""
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="bundle of the small model")
    parser.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="test files; default: the faster ones of tests/runtime"
    )
    parser.add_argument("--all", action="store_true", help="run all of tests/runtime, also the slow files")
    parser.add_argument("--python", required=True, metavar="COMMAND", help="command that starts Python under emulation")
    parser.add_argument("--machine", required=True, help="machine that this Python must report, such as aarch64")
    parser.add_argument("--unit", required=True, help="vector unit that NumPy must find there, such as ASIMD")
    parser.add_argument("--emulator", default="", metavar="TEXT", help="name and version, for the results")
    parser.add_argument(
        "--backends", default="onnxruntime", metavar="LIST", help="backends that label the scene; default: %(default)s"
    )
    parser.add_argument("--processes", type=int, default=1, help="test files at a time (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")
    parser.add_argument("--keep", action="store_true", help="keep the figures of F for test files that do not run now")


def run(args: argparse.Namespace) -> int:
    """Print labels and tests; the status is 1 where a test failed or a label differs that must not."""
    if args.files and args.all:
        raise OptionError("--all runs all of tests/runtime; expected it or files, not both")
    if args.processes < 1:
        raise OptionError(f"--processes is {args.processes}, expected at least 1")
    if args.keep and args.json is None:
        raise OptionError("--keep keeps figures of a file; expected --json with it")
    emulated = Emulated(shlex.split(args.python), args.bundle.resolve())
    facts = emulated.facts()
    machine, child = facts.pop("machines")
    units = " ".join(facts["units"])
    if (machine, child) != (args.machine, args.machine) or args.unit not in facts["units"]:
        found = f"{machine} with {units}, and its children on {child}"
        raise BenchmarkError(f"{args.python} runs on {found}; expected {args.machine} with {args.unit}")
    print(f"under emulation: {machine} with {units}; PAMR: {facts['paths']['PAMR']}")

    labels = [emulated.labels(backend) for backend in args.backends.split(",")]
    for scene in labels:
        print(f"labels on {scene.backend}: {scene.equal} of {scene.pixels} equal this processor's, ", end="")
        print(f"{scene.certain_equal} of {scene.certain} that are certain; {scene.seconds:.0f} s")

    figures = {
        "emulator": args.emulator,
        "machine": machine,
        **facts,
        "labels": [asdict(scene) for scene in labels],
    }
    files, left_out = chosen(args.files, every=args.all)
    tests = _kept(args.json, files) if args.keep else []
    with ThreadPoolExecutor(args.processes) as pool:
        running = [pool.submit(emulated.test, file) for file in files]
        for future in tqdm(as_completed(running), total=len(files), unit="file", disable=None):
            tests.append(future.result())
            if args.json is not None:  # the results so far, so that an interrupted run of an hour loses nothing
                not_run = _not_in([*left_out, *(path.stem for path in files)], tests)
                write_results(args.json, "emulated", {**figures, **_of_tests(tests, not_run)})
    total = _total(tests)
    print(_line(total))
    if left_out := _not_in(left_out, tests):
        print(f"left out: {', '.join(left_out)}; --all runs all")
    failed = total.failed or any(scene.certain_equal < scene.certain for scene in labels)
    return FAILED_CHECK if failed else 0


def chosen(files: Sequence[Path], *, every: bool) -> tuple[list[Path], list[str]]:
    """The test files to run, and the names of files in tests/runtime that are left out."""
    found = sorted((ROOT / "tests" / "runtime").glob("test_*.py"))
    run = list(dict.fromkeys(files)) or [path for path in found if every or path.stem not in SLOW]
    names = {path.stem for path in run}
    return run, [path.stem for path in found if path.stem not in names]


class Emulated:
    """Processes of an emulated Python. From this environment they import only the runtime."""

    def __init__(self, python: Sequence[str], bundle: Path) -> None:
        self._python = python
        self._bundle = bundle

    def facts(self) -> dict[str, Any]:
        """The processor that an emulated process sees. Raises BenchmarkError where no process can be started."""
        facts: dict[str, Any] = json.loads(self._run("-c", FACTS).splitlines()[-1])
        return facts

    def labels(self, backend: str) -> Labels:
        """Compare labels of the first held-out scene, with half of its concepts named, with this processor's."""
        from benchmarks.scenes.command import HELD_OUT_SEED

        (scene,) = draw_scenes(1, HELD_OUT_SEED, progress=False)
        words = named_half(scene, HELD_OUT_SEED, 0)
        segmenter = Segmenter.open(self._bundle, backend=backend)
        classes = segmenter.encode_classes(words)
        here = segmenter.segment(scene.image, classes, background=True, refine=True, keep_scores=True)
        if here.scores is None:
            raise BenchmarkError("the segmentation holds no scores; expected them with keep_scores=True")
        certain = margin_of(with_background(here.scores, segmenter.manifest.defaults.threshold)) > LABEL_MARGIN
        with tempfile.TemporaryDirectory() as folder:
            Image.fromarray(scene.image).save(Path(folder) / "scene.png")
            options = ("--classes", ",".join(words), "--background", "--refine", "--backend", backend)
            start = time.monotonic()
            self._run(
                *("-c", T2D, "segment", str(self._bundle), f"{folder}/scene.png"),
                *(*options, "--format", "npz", "--output", folder),
            )
            seconds = time.monotonic() - start
            with np.load(f"{folder}/scene.npz") as saved:
                equal = saved["label_map"] == here.label_map
        return Labels(
            backend=backend,
            words=words,
            size=here.label_map.shape,
            pixels=equal.size,
            equal=int(equal.sum()),
            certain=int(certain.sum()),
            certain_equal=int((equal & certain).sum()),
            seconds=round(seconds, 1),
        )

    def test(self, file: Path) -> TestFile:
        """Run a test file in a process of its own; print its output where tests fail."""
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            options = ("-q", "-p", "no:cacheprovider", "--junitxml", str(report))
            done = self._process("-m", "pytest", *options, str(file))
            counts = _counts(report)
        if done.returncode:
            tqdm.write(done.stdout + done.stderr)
            if not counts["failed"]:  # it broke off
                tqdm.write(f"{file} ended with status {done.returncode}")
                counts["failed"] = 1
        result = TestFile(file=file.name, **counts, seconds=round(time.monotonic() - start, 1))
        tqdm.write(_line(result))
        return result

    def _run(self, *arguments: str) -> str:
        done = self._process(*arguments)
        if done.returncode:
            raise BenchmarkError(
                f"{shlex.join(self._python)} ended with status {done.returncode}: {done.stderr[-400:]}"
            )
        return done.stdout

    def _process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": "1", "T2D_TEST_BUNDLE": str(self._bundle)}
        command = [*self._python, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _kept(path: Path, files: Sequence[Path]) -> list[TestFile]:
    """The tests in a file of figures, but for those of test files that run now. Raises DataError."""
    try:
        tests = [TestFile(**test) for test in json.loads(path.read_text())["figures"]["tests"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no figures to keep ({error!r}); leave --keep out") from error
    return [test for test in tests if test.file not in {file.name for file in files}]


def _not_in(names: Sequence[str], tests: Sequence[TestFile]) -> list[str]:
    """Those names of test files that have no figures."""
    done = {test.file.removesuffix(".py") for test in tests}
    return [name for name in names if name not in done]


def _of_tests(tests: Sequence[TestFile], left_out: Sequence[str]) -> dict[str, Any]:
    """The tests' part of the results."""
    by_name = sorted(tests)
    return {"total": _total(tests)._asdict(), "tests": [done._asdict() for done in by_name], "left_out": left_out}


def _total(tests: Sequence[TestFile]) -> TestFile:
    return TestFile(
        file="all",
        passed=sum(done.passed for done in tests),
        failed=sum(done.failed for done in tests),
        skipped=sum(done.skipped for done in tests),
        seconds=round(sum(done.seconds for done in tests), 1),
    )


def _line(result: TestFile) -> str:
    counts = f"{result.passed} passed, {result.failed} failed, {result.skipped} skipped"
    return f"{result.file}: {counts}, {result.seconds:.0f} s"


def _counts(report: Path) -> dict[str, int]:
    """Counts of pytest's report in JUnit's format; all are 0 where there is none."""
    suites = list(ElementTree.parse(report).iter("testsuite")) if report.is_file() else []
    tests, failures, errors, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    return {"passed": tests - failures - errors - skipped, "failed": failures + errors, "skipped": skipped}
