"""Runs: interrupted and resumed, with bad files, in several processes, against PyTorch, from the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.accuracy import against_reference, tables
from benchmarks.accuracy.dataset import DataSet, Sample, folder_data
from benchmarks.accuracy.evaluation import Evaluation, evaluate
from benchmarks.accuracy.labelling import Labelled, Labeller, Pixels
from benchmarks.accuracy.pictures import DIFFERENCE_COLOUR, draw
from benchmarks.accuracy.records import RECORDS, RecordFile
from benchmarks.accuracy.truth import LabelRule
from t2d_runtime import Segmenter
from t2d_runtime.errors import BackendError, CheckpointError, DataError
from t2d_runtime.proof.parity import LABEL_MARGIN
from training.drawing.concepts import CONCEPTS
from training.drawing.scene_masks import IntersectionOverUnion
from training.drawing.scenes import draw_scene

ROOT = Path(__file__).resolve().parent.parent.parent
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
RUN = {"refine": False, "precision": "fp32"}


@dataclass
class Stub:
    """Labels by brightness; may be interrupted before an image."""

    interrupted_at: int | None = None
    seen: int = field(default=0, init=False)

    def open(self) -> Labeller:
        def label(image: Pixels) -> Labelled:
            if self.seen == self.interrupted_at:
                raise KeyboardInterrupt
            self.seen += 1
            return Labelled((image[..., 0] // 86).astype(np.uint8))

        return label


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Five images of noise with three labels and noise for truth; some of it ignored."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(5):
        sample = Sample(f"{number}", tmp_path / f"image{number}.png", tmp_path / f"labels{number}.png")
        Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8)).save(sample.image)
        Image.fromarray(rng.choice(np.array([0, 1, 2, 255], np.uint8), (8, 9))).save(sample.labels)
        samples.append(sample)
    return DataSet("noise", tuple(samples), ("cat", "dog", "bird"), LabelRule((0, 1, 2), (255,)), False, False)


def run(data: DataSet, stub: Stub, folder: Path, *, resume: bool = False, skip_bad: bool = False) -> Evaluation:
    file, done = RecordFile.open(folder / RECORDS, RUN, resume=resume)
    return evaluate(data, stub, file, done, processes=1, skip_bad=skip_bad)


@pytest.mark.parametrize("torn", [b"", b'{"name":"2","cells":[[0,0'])
def test_an_interrupted_run_resumes_to_the_same_figures(data: DataSet, tmp_path: Path, torn: bytes) -> None:
    expected = tables.figures(run(data, Stub(), tmp_path / "whole"), data.label_names)
    with pytest.raises(KeyboardInterrupt):
        run(data, Stub(interrupted_at=2), tmp_path / "killed")
    with (tmp_path / "killed" / RECORDS).open("ab") as file:
        file.write(torn)
    stub = Stub()
    assert tables.figures(run(data, stub, tmp_path / "killed", resume=True), data.label_names) == expected
    assert stub.seen == 3
    contents = [(tmp_path / folder / RECORDS).read_bytes() for folder in ("whole", "killed")]
    assert contents[0] == contents[1]
    again = Stub()
    assert tables.figures(run(data, again, tmp_path / "killed", resume=True), data.label_names) == expected
    assert again.seen == 0


SLOW_RUN = """
import sys, time
from pathlib import Path
import numpy as np
from benchmarks.accuracy.dataset import folder_data
from benchmarks.accuracy.evaluation import evaluate
from benchmarks.accuracy.labelling import Labelled
from benchmarks.accuracy.records import RecordFile

class Slow:
    def open(self):
        def label(image):
            time.sleep(0.2)
            return Labelled((image[..., 0] // 86).astype(np.uint8))
        return label

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folders = folder / "images", folder / "labels", folder / "classes.txt"
    file, done = RecordFile.open(folder / "images.jsonl", {}, resume=False)
    data = folder_data(*folders, ignored=[255], background_label=None)
    evaluate(data, Slow(), file, done, processes=2, skip_bad=False)
"""
"""A run of the stub in two processes, as a program: its processes import it again."""


def test_a_killed_run_leaves_no_process_behind_and_resumes(data: DataSet, tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for copy in range(6):
        for sample in data.samples:
            shutil.copy(sample.image, tmp_path / "images" / f"{copy}{sample.name}.png")
            shutil.copy(sample.labels, tmp_path / "labels" / f"{copy}{sample.name}.png")
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n")
    (tmp_path / "slow.py").write_text(SLOW_RUN)
    records = tmp_path / RECORDS
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    program = [sys.executable, str(tmp_path / "slow.py"), str(tmp_path)]
    with subprocess.Popen(program, cwd=ROOT, env=environment, **PIPES) as killed:
        while killed.poll() is None and not (records.exists() and records.read_bytes().count(b"\n") > 2):
            time.sleep(0.01)
        killed.kill()
        # The pipes are closed when the last process that writes to them has ended.
        _, errors = killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, errors.decode()
    folders = (tmp_path / name for name in ("images", "labels", "classes.txt"))
    six_times = folder_data(*folders, ignored=[255], background_label=None)
    file, done = RecordFile.open(records, {}, resume=True)
    assert 0 < len(done) < 30
    resumed = evaluate(six_times, Stub(), file, done, processes=1, skip_bad=False)
    assert (resumed.confusion == 6 * run(data, Stub(), tmp_path / "once").confusion).all()


def test_a_process_that_dies_is_an_error(data: DataSet, tmp_path: Path) -> None:
    file, done = RecordFile.open(tmp_path / RECORDS, RUN, resume=False)
    dying = SimpleNamespace(open=partial(os._exit, 3))
    with pytest.raises(BackendError, match=r"a process ended by itself.*go on with --resume and fewer --processes"):
        evaluate(data, dying, file, done, processes=2, skip_bad=False)


def test_only_the_same_run_is_resumed(data: DataSet, tmp_path: Path) -> None:
    run(data, Stub(), tmp_path)
    path = tmp_path / RECORDS
    with pytest.raises(CheckpointError, match="holds an earlier run; go on with --resume, or give another --output"):
        RecordFile.open(path, RUN, resume=False)
    with pytest.raises(CheckpointError, match="of another run \\(refine was False, now True\\)"):
        RecordFile.open(path, RUN | {"refine": True}, resume=True)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"not a record\n", *lines[3:]]))
    with pytest.raises(CheckpointError, match=r"images\.jsonl is damaged"):
        RecordFile.open(path, RUN, resume=True)
    path.write_bytes(b"".join([*lines[:2], lines[1]]))
    with pytest.raises(CheckpointError, match="holds an image twice"):
        RecordFile.open(path, RUN, resume=True)
    path.write_bytes(b"".join([*lines[:2], b'{"name":"1"}\n']))
    with pytest.raises(CheckpointError, match=r"images\.jsonl, line 3: missing keys \['cells'\]"):
        RecordFile.open(path, RUN, resume=True)


def test_other_data_are_another_run(data: DataSet) -> None:
    before = data.digest
    Image.new("L", (9, 8), 1).save(data.samples[0].labels)
    assert data.digest != before


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda sample: sample.image.write_bytes(sample.image.read_bytes()[:60]), r"image1\.png cannot be decoded"),
        (lambda sample: sample.labels.write_bytes(b"no picture"), r"labels1\.png is not an image"),
        (lambda sample: Image.new("L", (8, 9)).save(sample.labels), r"labels1\.png has 8 x 9 pixels, its image 9 x 8"),
        (lambda sample: Image.new("L", (9, 8), 3).save(sample.labels), r"labels1\.png holds the values \[3\]"),
    ],
)
def test_a_bad_file_stops_the_run_or_is_counted(data: DataSet, tmp_path: Path, break_it: Any, message: str) -> None:
    break_it(data.samples[1])
    with pytest.raises(DataError, match=message + ".*; repair it, or leave such images out with --skip-bad"):
        run(data, Stub(), tmp_path / "out")
    result = run(data, Stub(), tmp_path / "out", resume=True, skip_bad=True)
    assert [record.name for record in result.records] == ["0", "2", "3", "4"]
    assert [image.name for image in result.skipped] == ["1"]
    content = tables.figures(result, data.label_names)
    assert content["images"] == 4
    assert content["skipped"][0]["name"] == "1"
    assert tables.table(content).splitlines()[-1].endswith("4 images, 1 left out")


@dataclass
class ComparedStub:
    """The reference differs from the bundle in the first column; one of these pixels is undecided."""

    def open(self) -> Labeller:
        def label(image: Pixels) -> Labelled:
            labels = (image[..., 0] // 86).astype(np.uint8)
            other = labels.copy()
            other[:, 0] = (other[:, 0] + 1) % 3
            margin = np.full(labels.shape, 0.25, np.float32)
            margin[0, 0] = LABEL_MARGIN / 2
            margin[1, 0] = 0.5
            return Labelled(labels, other, margin)

        return label


def test_agreement_by_hand(data: DataSet, tmp_path: Path) -> None:
    file, done = RecordFile.open(tmp_path / RECORDS, RUN, resume=False)
    evaluate(data, ComparedStub(), file, done, processes=1, skip_bad=False)
    _, records = RecordFile.open(tmp_path / RECORDS, RUN, resume=True)
    evaluation = Evaluation(3, records)
    content = against_reference.figures(evaluation)
    assert content["label_agreement"] == pytest.approx(8 / 9)
    assert content["differing_pixels"] == 5 * 8
    assert content["differing_below_margin"] == pytest.approx(1 / 8)
    assert content["largest_margin"] == 0.5
    low, high = content["miou_difference_interval"]
    assert low < content["miou_difference"] < high
    assert content["miou"] + content["miou_difference"] == pytest.approx(
        tables.figures(evaluation, data.label_names)["miou"]
    )
    assert against_reference.least_agreeing(evaluation, 2) == ["0", "1"]
    assert "labels that agree: 88.8889%; 40 pixels differ" in tables.against_text(content)


def test_picture_shows_where_they_part(data: DataSet) -> None:
    plain, compared = (np.asarray(draw(data.samples[0], data, stub.open())) for stub in (Stub(), ComparedStub()))
    marked = (compared == DIFFERENCE_COLOUR).all(axis=2)
    assert not (plain == DIFFERENCE_COLOUR).all(axis=2).any()
    assert np.flatnonzero(marked.any(axis=0))[0] > plain.shape[1], "right of image, truth and result"
    assert 1 <= np.count_nonzero(marked.any(axis=0)) <= 4, "one column of nine, enlarged twice"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn scenes as any folder of images with label maps, the last of their label maps damaged."""
    folder = tmp_path_factory.mktemp("scenes")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for index in range(3):
        scene = draw_scene(41, index)
        Image.fromarray(scene.image).save(folder / "images" / f"{index}.png")
        Image.fromarray(scene.labels).save(folder / "labels" / f"{index}.png")
    (folder / "labels" / "2.png").write_bytes(b"damaged")
    (folder / "classes.json").write_text(json.dumps(CONCEPTS))
    return folder


def command(bundle: Path, scenes: Path, output: Path, *more: str) -> list[str]:
    folders = ["--images", str(scenes / "images"), "--labels", str(scenes / "labels")]
    folders += ["--classes-file", str(scenes / "classes.json"), "--output", str(output)]
    return [
        "accuracy",
        str(bundle),
        *folders,
        "--backend",
        "onnxruntime",
        "--json",
        str(output / "figures.json"),
        *more,
    ]


def figures(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "figures.json").read_text())["figures"]
    return content


def test_command_in_one_process_and_in_two(
    exported_bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    options = ("--skip-bad", "--threads", "2", "--pictures", "1")
    assert main(command(exported_bundle, scenes, one, *options)) == 0
    assert "2 images, 1 left out" in capsys.readouterr().out
    assert main(command(exported_bundle, scenes, two, *options, "--processes", "2")) == 0
    found = figures(one)
    assert figures(two) == found
    segmenter, judged = Segmenter.open(exported_bundle, backend="onnxruntime", num_threads=2), IntersectionOverUnion()
    words = segmenter.encode_classes(CONCEPTS)
    for index in range(2):
        scene = draw_scene(41, index)
        judged.add(segmenter.segment(scene.image, words).label_map.astype(np.uint8), scene.labels)
    assert found["miou"] == judged.mean()
    assert found["precision"] == "fp32"
    assert found["model_digest"] == segmenter.model_digest, "as in the files of 't2d bench'"
    assert set(found["graphs_sha256"]) == set(segmenter.bundle.graph_digests("fp32"))
    with (one / "confusion.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[1:] == [row[0] for row in rows] == list(CONCEPTS)
    assert sum(int(pixels) for row in rows for pixels in row[1:]) == 2 * 224 * 224
    assert [path.name for path in (one / "worst").iterdir()] == [f"01-{found['worst'][0]}.png"]
    assert main(command(exported_bundle, scenes, one, "--resume", "--refine")) == 2
    assert "of another run (refine was False, now True)" in capsys.readouterr().err


def test_bundle_against_reference(
    exported_bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Value 0 (sky) is the background here: cleaning and threshold take part in the comparison.
    options = ("--limit", "1", "--class-file", str(tmp_path / "classes.json"), "--background-label", "0", "--refine")
    (tmp_path / "classes.json").write_text(json.dumps(CONCEPTS[1:]))
    against = ("--against", "reference", "--backbone", str(ROOT / "models" / "tiny"))
    assert main(command(exported_bundle, scenes, tmp_path, *options, *against)) == 0
    found = figures(tmp_path)
    assert found["background"]
    assert found["cleaning"] == "official"
    reference = found["reference"]
    assert reference["label_agreement"] > 0.9999
    assert reference["largest_margin"] <= LABEL_MARGIN
    assert reference["miou"] == pytest.approx(found["miou"], abs=1e-4)
    assert "bundle minus PyTorch" in capsys.readouterr().out


def test_reference_of_other_weights(
    exported_bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(ROOT / "models" / "tiny", tmp_path / "tiny")
    against = ("--against", "reference", "--backbone", str(model), "--projection", "random")
    assert main(command(exported_bundle, scenes, tmp_path / "out", "--limit", "1", *against)) == 2
    assert "the projection weights are random" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "voc20"], "--benchmark needs --data"),
        (["--benchmark", "voc20", "--data", "d", "--ignore", "0"], "none of the options for any images"),
        (["--images", "i"], "or --labels, --classes-file too"),
        (["--processes", "0"], "--processes is 0, expected at least 1"),
        (["--against", "reference"], "--against reference needs --backbone"),
        (["--benchmark", "ade20k", "--data", "nowhere"], "ADEChallengeData2016.zip from http"),
    ],
)
def test_bad_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accuracy", "no bundle", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
