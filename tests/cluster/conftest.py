"""Drawn scenes, the rows that one process gives for them, and `t2d cluster` as a process with all that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from PIL import Image

from t2d_runtime import Segmenter
from t2d_runtime.cluster.dataset import Row
from t2d_runtime.errors import T2DError
from tests.conftest import ROOT, hear_interrupts
from training.drawing.scenes import draw_scene

TIMEOUT_S = 300
"""For machines that are busy with other work too."""

WORDS = ("sky", "grass", "sun", "house")
SIZES = (56, 64, 80)
MARK = "T2D_TEST_RUN"
"""Environment variable by which the processes of one run are found."""


def write_scenes(folder: Path, count: int, seed: int = 11) -> list[Path]:
    """Drawn scenes of a few sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(draw_scene(seed, index, SIZES[index % len(SIZES)]).image).save(path)
    return paths


def damage(path: Path) -> Path:
    """The file cut in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.fixture(scope="session")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime", num_threads=1)


def row_of(segmenter: Segmenter, picture: Any, path: str, words: Any = WORDS, **options: Any) -> Row:
    """The row of a picture, from the results that one process gives."""
    try:
        result = segmenter.segment(picture, words, keep_confidence=True, **options)
    except T2DError as error:
        return {"path": path, "height": None, "width": None, "masks": None, "error": str(error)}
    codes = result.rle()
    masks: Any = [
        {
            "label": label["label"],
            "name": label["name"],
            "pixels": label["pixels"],
            "mean_score": label["mean_score"],
            **codes[label["name"]],
        }
        for label in result.summary()["labels"]
        if label["pixels"]
    ]
    height, width = result.label_map.shape
    return {"path": path, "height": height, "width": width, "masks": masks, "error": None}


def expected_rows(segmenter: Segmenter, paths: Sequence[Path], **options: Any) -> list[Row]:
    return [row_of(segmenter, path, str(path), **options) for path in sorted(paths)]


def rows_of(output: Path) -> list[Row]:
    """All rows of a dataset, in the order of their paths."""
    rows: Any = pyarrow.dataset.dataset(output).to_table().to_pylist()
    return sorted(rows, key=lambda row: str(row["path"]))


def files_of(output: Path) -> list[str]:
    return sorted(path.name for path in output.iterdir()) if output.exists() else []


class Run:
    """A run of the command and the processes that it started."""

    def __init__(self, arguments: Sequence[str | Path], environment: dict[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        command = [sys.executable, "-m", "t2d_runtime", "cluster", *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_interrupts,
        )

    def end(self) -> tuple[int, str, str]:
        """Wait for it; its status, standard output and standard error."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, out, err

    def processes(self) -> dict[int, str]:
        """Process number -> command line of all living processes of this run."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdecimal() and f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # ended meanwhile
                continue
        return found

    def workers(self) -> list[int]:
        """Process numbers of the workers."""
        return [number for number, line in self.processes().items() if line.startswith("ray::MapWorker")]

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Wait until something has happened, while the run goes on."""
        end = time.monotonic() + TIMEOUT_S
        while not happened():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    def kill_rest(self) -> None:
        for number in self.processes():
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue


@contextmanager
def started(*arguments: str | Path, environment: dict[str, str] | None = None) -> Iterator[Run]:
    """Starts the command; afterwards nothing of it is left."""
    usual = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_ADDRESS": ""}
    run = Run(arguments, usual if environment is None else environment)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()
        run.kill_rest()


def arguments_of(bundle: Path, inputs: Sequence[str | Path], output: Path, *more: str) -> list[str | Path]:
    """A command line with one worker of one thread."""
    words = ("--classes", ",".join(WORDS))
    engine = ("--backend", "onnxruntime", "--workers", "1", "--threads", "1")
    return [bundle, *inputs, "--output", output, *words, *engine, *more]
