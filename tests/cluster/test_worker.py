"""A worker in this process: what it writes and reports, into a store too."""

from __future__ import annotations

import pickle
import tarfile
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from t2d_runtime import Segmenter
from t2d_runtime.cluster import run
from t2d_runtime.cluster.dataset import Row, part_name, parts_of_output, read_content, schema_of
from t2d_runtime.cluster.images import Files, Shard, Unit
from t2d_runtime.cluster.placement import Placement
from t2d_runtime.cluster.places import LOCAL, Place, place_of
from t2d_runtime.cluster.run import Outcome, run_all
from t2d_runtime.cluster.worker import Engine, Lost, Report, Task, Worker, Written, prepare
from t2d_runtime.errors import ClusterError, OptionError, OutputError, T2DError
from t2d_runtime.words.class_list import checked_classes

from .conftest import WORDS, damage, expected_rows, write_scenes

SETTINGS = {"bundle": "abc"}


@pytest.fixture
def engine(exported_bundle: Path, segmenter: Segmenter) -> Engine:
    return Engine(str(exported_bundle), segmenter.manifest.digest, "onnxruntime", "fp32", 1, "host")


@pytest.fixture
def task(engine: Engine, segmenter: Segmenter) -> Task:
    output = place_of(f"memory://{uuid.uuid4().hex}/out")
    return Task(engine, segmenter.encode_classes(WORDS), {"background": True}, output, SETTINGS, 3)


def reports_of(worker: Worker, *units: Unit) -> list[tuple[int, Report]]:
    batch = {"number": np.arange(len(units)), "unit": [pickle.dumps(unit) for unit in units]}
    return [(row["unit"][0], pickle.loads(row["report"][0])) for row in worker(batch)]


def files(paths: Sequence[Path]) -> Files:
    return Files(LOCAL, tuple(map(str, paths)))


def rows_in(output: Place) -> list[Row]:
    filesystem: Any = output.filesystem
    rows: list[Row] = []
    for name in parts_of_output(output):
        rows += pyarrow.parquet.read_table((output / name).path, filesystem=filesystem).to_pylist()
    return sorted(rows, key=lambda row: row["path"])


def test_parts_go_into_a_store_and_are_not_made_again(task: Task, segmenter: Segmenter, tmp_path: Path) -> None:
    paths = write_scenes(tmp_path, 5)
    damage(paths[1])
    units = files(paths[:3]), files(paths[3:])
    first, second = (part_name(map(str, group)) for group in (paths[:3], paths[3:]))
    told = reports_of(Worker(task, lambda unit: 1), *units)
    error = expected_rows(segmenter, [paths[1]])[0]["error"]
    assert told == [
        (0, Written(first, 3, 1, ((str(paths[1]), str(error)),))),
        (0, None),
        (1, Written(second, 2, 0)),
        (1, None),
    ]
    assert rows_in(task.output) == expected_rows(segmenter, paths, background=True)
    for path in paths:
        path.unlink()  # the parts are there, so no picture is read again
    assert reports_of(Worker(task, lambda unit: 2), *units) == [
        (0, Written(first, 3, 1)),
        (0, None),
        (1, Written(second, 2, 0)),
        (1, None),
    ]
    assert read_content(task.output, [first, second]).settings == SETTINGS


def test_labels_without_a_pixel_have_no_mask(task: Task, segmenter: Segmenter, tmp_path: Path) -> None:
    paths = write_scenes(tmp_path, 1)
    reports_of(Worker(task, lambda unit: 1), files(paths))
    (row,) = rows_in(task.output)
    assert row["masks"] is not None
    assert sum(mask["pixels"] for mask in row["masks"]) == (row["height"] or 0) * (row["width"] or 0)
    assert all(mask["pixels"] for mask in row["masks"])


def test_the_last_part_of_a_shard_says_that_it_is_finished(task: Task, tmp_path: Path) -> None:
    paths, shard = write_scenes(tmp_path, 4), tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        for path in paths:
            tar.add(path, path.name)
    reports = Worker(task, lambda unit: 1)(
        {"number": np.arange(1), "unit": [pickle.dumps(Shard(place_of(str(shard)), None))]}
    )
    for finished in (set(), {str(shard)}):
        assert isinstance(pickle.loads(next(reports)["report"][0]), Written)
        assert read_content(task.output, parts_of_output(task.output)).finished == finished
    assert [row["path"] for row in rows_in(task.output)] == [f"{shard}#{path.name}" for path in paths]


def test_a_unit_that_ends_its_process_again_and_again_is_given_up(task: Task, tmp_path: Path) -> None:
    assert reports_of(Worker(task, lambda unit: 5), files(write_scenes(tmp_path, 1))) == [(0, Lost())]


def test_errors_of_the_engine_and_of_the_output_are_reported(task: Task, engine: Engine, tmp_path: Path) -> None:
    unit = files(write_scenes(tmp_path / "in", 1))
    other = replace(task, engine=replace(engine, digest="0" * 64))
    ((_, report),) = reports_of(Worker(other, lambda unit: 1), unit)
    assert isinstance(report, ClusterError)
    assert "is another bundle on a machine of the cluster" in str(report)
    (tmp_path / "file").touch()
    full = replace(task, output=place_of(str(tmp_path / "file")))
    ((_, report),) = reports_of(Worker(full, lambda unit: 1), unit)
    assert isinstance(report, OutputError)


def test_preparing_encodes_the_words_and_checks_the_options(engine: Engine, segmenter: Segmenter) -> None:
    templates = segmenter.manifest.prompt_sets["subset"]
    prepared = prepare(engine, checked_classes(WORDS), templates, {"background": True})
    np.testing.assert_array_equal(prepared.classes.vectors, segmenter.encode_classes(WORDS).vectors)
    assert (prepared.settings.backend, prepared.settings.background) == ("onnxruntime", True)
    with pytest.raises(OptionError, match="have no effect without background=True"):
        prepare(engine, checked_classes(WORDS, (), {"sky": 0.5}), templates, {})


class Told:
    """Remembers what a run reports."""

    def __init__(self) -> None:
        self.written: list[Written] = []

    def wait(self, what: str) -> None: ...

    def start(self, pictures: int | None, engine: str) -> None: ...

    def advance(self, written: Written) -> None:
        self.written.append(written)

    def stop(self) -> None: ...


def lost_at(paths: set[str], task: Task) -> Any:
    """A run that loses each unit with one of the paths, as where that picture ends its worker's process."""

    def run_units(units: Sequence[Unit], *_: object) -> Outcome:
        outcome = Outcome()
        for number, unit in enumerate(units):
            assert isinstance(unit, Files)
            if not paths & set(unit.paths):
                for _, report in reports_of(Worker(task, lambda unit: 1), unit):
                    if isinstance(report, Written):
                        outcome.parts[report.part] = report
                outcome.ended.add(number)
        return outcome

    return run_units


def test_a_picture_that_ends_its_process_is_a_row(
    task: Task, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_scenes(tmp_path, 6)
    monkeypatch.setattr(run, "_run", lost_at({str(paths[4])}, task))
    told = Told()
    outcome = run_all([files(paths[:3]), files(paths[3:])], task, Placement(1, 1), told)
    assert outcome.fault is None
    assert sum(part.pictures for part in outcome.parts.values()) == 6
    rows = rows_in(task.output)
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert rows[4]["error"] == (
        f"{paths[4]}: the worker's process ended 4 times; perhaps its machine has too little memory"
    )
    assert rows[:4] + rows[5:] == expected_rows(segmenter, [*paths[:4], paths[5]], background=True)
    assert [written.failures[0][0] for written in told.written] == [str(paths[4])]


def test_a_machine_that_loses_everything_ends_the_run(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    monkeypatch.setattr(run, "_run", lost_at(set(map(str, paths)), task))
    outcome = run_all([files([path]) for path in paths], task, Placement(1, 1), Told())
    assert isinstance(outcome.fault, T2DError)
    assert str(outcome.fault).startswith("20 units of pictures: the worker's process ended 4 times")
    assert parts_of_output(task.output) == []


def test_the_columns_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    schema = schema_of(SETTINGS)
    names = [*schema.names, *(field.name for field in schema.field("masks").type.value_type)]
    assert [name for name in names if f"`{name}`" not in text] == []
