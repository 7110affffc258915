"""The dataset's parts, and what a plan finds missing in it; on this machine and in a store."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from t2d_runtime.cluster import dataset
from t2d_runtime.cluster.dataset import (
    Row,
    check_settings,
    counts_of_part,
    part_name,
    parts_of_output,
    prepare_output,
    read_content,
    remove_failed_parts,
    write_part,
)
from t2d_runtime.cluster.images import Files, RowGroup, Shard
from t2d_runtime.cluster.inputs import Found, Inputs
from t2d_runtime.cluster.placement import Node, Placement, place_workers
from t2d_runtime.cluster.places import Place, place_of
from t2d_runtime.cluster.plan import alone, holds, only_picture, plan_units, usual_rows_per_file
from t2d_runtime.errors import ClusterError, OptionError, OutputError

SETTINGS = {"bundle": "abc", "options": {"background": False, "threshold": 0.5}, "rows_per_file": 2}


@pytest.fixture(params=["local", "store"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}/out")


def row(path: str, error: str | None = None) -> Row:
    return {"path": path, "height": 2, "width": 3, "masks": [], "error": error}


def test_parts_are_read_back(output: Place) -> None:
    assert prepare_output(output, create=False) == []
    assert read_content(output, []).settings is None
    prepare_output(output, create=True)
    first = write_part(output, [row("a"), row("b", "broken")], SETTINGS)
    second = write_part(output, [row("s.tar#1")], SETTINGS, ["s.tar"])
    assert first == part_name(["a", "b"])
    assert write_part(output, [row("a"), row("b", "broken")], SETTINGS) == first
    assert sorted(prepare_output(output, create=False)) == sorted([first, second]) == sorted(parts_of_output(output))
    content = read_content(output, [first, second])
    assert content.settings == SETTINGS
    assert content.done == {"a", "b", "s.tar#1"}
    assert (content.failed, content.finished, content.with_failures) == ({"b"}, {"s.tar"}, {first})
    assert content.twice == 0
    assert counts_of_part(output, first) == (2, 1)
    assert counts_of_part(output, part_name(["z"])) is None


def test_failed_parts_are_removed_where_all_of_them_is_done_again(output: Place) -> None:
    prepare_output(output, create=True)
    names = [write_part(output, rows, SETTINGS) for rows in ([row("a", "x"), row("b")], [row("c", "x")], [row("d")])]
    content = read_content(output, names)
    assert remove_failed_parts(output, content, lambda path: path in ("a", "c")) == 1
    assert sorted(parts_of_output(output)) == sorted([names[0], names[2]])


def test_unfinished_parts_are_removed_and_other_files_refused(tmp_path: Path) -> None:
    output = place_of(str(tmp_path))
    name = write_part(output, [row("a")], SETTINGS)
    abandoned, written = (tmp_path / f".{name[:40]}-{digit * 16}" for digit in "01")
    for path in (abandoned, written):
        path.write_bytes(b"half")
    an_hour_ago = time.time() - 3600
    os.utime(abandoned, (an_hour_ago, an_hour_ago))
    assert prepare_output(output, create=False) == [name]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, written.name])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"holds notes\.txt, which is no part of a dataset of this command"):
        prepare_output(output, create=False)


def test_a_run_that_begins_leaves_another_ones_part_alone(output: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write = dataset._write

    def slowly(table: Any, file: Any) -> None:
        write(table, file)
        prepare_output(output, create=False)  # of the other run

    monkeypatch.setattr(dataset, "_write", slowly)
    prepare_output(output, create=True)
    name = write_part(output, [row("a")], SETTINGS)
    assert parts_of_output(output) == [name]


def test_a_part_of_another_program_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    output = place_of(str(tmp_path))
    name = part_name(["a"])
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"], "error": [None]}), tmp_path / name)
    with pytest.raises(OutputError, match="was not written by this command"):
        read_content(output, [name])
    (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(OutputError, match=r"is damaged: .*; remove it and run again"):
        read_content(output, [name])


def test_pictures_in_two_parts_are_counted(tmp_path: Path) -> None:
    output = place_of(str(tmp_path))
    names = [write_part(output, rows, SETTINGS) for rows in ([row("a"), row("b")], [row("b"), row("c")])]
    assert read_content(output, names).twice == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundle": "xyz"}, 'was made with bundle "abc", this run has "xyz"; give the same again'),
        ({"options": {"background": True, "threshold": 0.5}}, "made with options.background false, this run has true"),
        ({"vocabulary": "x"}, 'made with vocabulary null, this run has "x"'),
    ],
)
def test_other_settings_are_refused(change: dict[str, Any], message: str) -> None:
    check_settings(place_of("/out"), SETTINGS, {**SETTINGS, "rows_per_file": 9, "generator": "t2d-runtime 9"})
    with pytest.raises(OptionError) as told:
        check_settings(place_of("/out"), SETTINGS, SETTINGS | change)
    assert message in str(told.value)


def test_a_plan_has_what_is_missing(tmp_path: Path) -> None:
    output = place_of(str(tmp_path))
    table, shards = place_of("/t.parquet"), [place_of(f"/{name}.tar") for name in "abc"]
    inputs = Inputs(
        files=[Found("", f"/{index}.jpg") for index in range(5)],
        shards=[Shard(place, None) for place in shards],
        row_groups=[RowGroup(table, 0, "image", 0, 2), RowGroup(table, 1, "image", 2, 3)],
    )
    parts = [
        write_part(output, [row("/1.jpg"), row("/3.jpg", "x")], SETTINGS),
        write_part(output, [row("/t.parquet#0"), row("/t.parquet#1"), row("/t.parquet#3", "x")], SETTINGS),
        write_part(output, [row("/a.tar#x.jpg"), row("/b.tar#1.jpg", "x")], SETTINGS, ["/a.tar"]),
        write_part(output, [row("/elsewhere.jpg", "x")], SETTINGS),
    ]
    content = read_content(output, parts)
    plan = plan_units(inputs, content, 2)
    assert plan.units == [
        Files("", ("/0.jpg", "/2.jpg")),
        Files("", ("/4.jpg",)),
        RowGroup(table, 1, "image", 2, 3, frozenset({3})),
        Shard(shards[1], None, frozenset({"/b.tar#1.jpg"})),
        Shard(shards[2], None),
    ]
    assert (plan.pictures, plan.done, plan.failed) == (None, 7, 3)
    inside = holds(inputs)
    assert [inside(path) for path in ("/0.jpg", "/t.parquet#4", "/c.tar#q", "/c.tar", "/elsewhere.jpg")] == [
        *[True] * 4,
        False,
    ]
    single = [one for unit in plan.units for one in alone(unit)]
    assert [only_picture(one) for one in single] == [
        *(f"/{index}.jpg" for index in (0, 2, 4)),
        "/t.parquet#2",
        "/t.parquet#4",
        None,
        None,
    ]


def test_files_of_two_stores_are_not_in_one_unit() -> None:
    inputs = Inputs(files=[Found("", "/a"), Found("memory://x", "/x/b"), Found("memory://x", "/x/c")])
    plan = plan_units(inputs, read_content(place_of("/none"), []), 3)
    assert plan.units == [Files("", ("/a",)), Files("memory://x", ("/x/b", "/x/c"))]
    assert [usual_rows_per_file(Inputs(files=inputs.files * count), 2) for count in (1, 100, 10_000)] == [1, 18, 100]


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([Node(2, 0)], {}, Placement(1, 2)),
        ([Node(4, 0), Node(16, 0), Node(0, 0)], {}, Placement(5, 4)),
        ([Node(4, 0), Node(4, 0)], {"workers": 4}, Placement(4, 2)),
        ([Node(4, 0), Node(16, 0)], {"workers": 3}, Placement(3, 5)),
        ([Node(4, 0)], {"threads": 1}, Placement(4, 1)),
        ([Node(4, 0)], {"workers": 9, "growing": True}, Placement(9, 1)),
        ([Node(16, 4), Node(8, 0)], {"on_gpu": True}, Placement(4, 4, 1)),
        ([Node(16, 2)], {"on_gpu": True, "workers": 4}, Placement(4, 4, 0.5)),
    ],
)
def test_workers_and_their_threads(nodes: list[Node], options: dict[str, Any], expected: Placement) -> None:
    usual: dict[str, Any] = {"on_gpu": False, "workers": None, "threads": None, "growing": False}
    assert place_workers(nodes, **usual | options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 5}, "no machine of the cluster has 5 cores; the largest has 4"),
        ({"workers": 5}, "5 workers of 1 threads do not fit: there is room for 4"),
        ({"on_gpu": True}, "no machine of the cluster offers a GPU to Ray"),
    ],
)
def test_places_that_do_not_exist_are_told(options: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"on_gpu": False, "workers": None, "threads": None, "growing": False}
    with pytest.raises(ClusterError) as told:
        place_workers([Node(4, 0)], **usual | options)
    assert message in str(told.value)
