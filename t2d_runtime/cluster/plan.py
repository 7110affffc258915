"""Divides what is missing in a dataset into units, each for one worker in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from t2d_runtime.cluster.dataset import Content
from t2d_runtime.cluster.images import Files, Shard, Unit, member_path
from t2d_runtime.cluster.inputs import Found, Inputs
from t2d_runtime.cluster.places import shown_path

ROWS_PER_FILE = 100
"""Pictures of a part, and of a unit of files. Less work is lost with a worker where they are fewer."""

UNITS_PER_WORKER = 8
"""A small run has parts of fewer pictures, so that its workers end at about the same time."""


@dataclass
class Plan:
    """Work of a run, and the part of its inputs that was done before."""

    units: list[Unit]
    pictures: int | None
    """Pictures of the units; None where shards are among them, whose members nobody has counted."""
    done: int
    """Pictures of the inputs that are in the dataset."""
    failed: int
    """Those of them that failed."""


def usual_rows_per_file(inputs: Inputs, workers: int) -> int:
    """The pictures of a part where the command line names no number."""
    count = len(inputs.files) + sum(group.count for group in inputs.row_groups)
    return ROWS_PER_FILE if inputs.shards else max(1, min(ROWS_PER_FILE, count // (UNITS_PER_WORKER * workers)))


def plan_units(inputs: Inputs, content: Content, size: int) -> Plan:
    """The units of all pictures that the dataset lacks, in the order of the inputs.

    The same inputs and the same dataset give the same units.
    """
    missing = [file for file in inputs.files if shown_path(*file) not in content.done]
    units: list[Unit] = list(_chunks(missing, size))
    done = len(inputs.files) - len(missing)
    failed = sum(shown_path(*file) in content.failed for file in inputs.files) if content.failed else 0
    count = len(missing)
    for group in inputs.row_groups:
        rows = range(group.first_row, group.first_row + group.count)
        skipped = frozenset(row for row in rows if member_path(group.place, row) in content.done)
        failed += sum(member_path(group.place, row) in content.failed for row in skipped)
        done += len(skipped)
        if len(skipped) < group.count:
            units.append(replace(group, skipped=skipped))
            count += group.count - len(skipped)
    shards = _missing_shards(inputs.shards, content)
    of_shards = _of_shards(content.done, inputs.shards)
    failed += sum(path in content.failed for path in of_shards)
    return Plan([*units, *shards], None if shards else count, done + len(of_shards), failed)


def _chunks(files: Sequence[Found], size: int) -> Iterator[Files]:
    """Files in groups of one filesystem and at most a size."""
    start = 0
    for index in range(1, len(files) + 1):
        if index == len(files) or index - start == size or files[index].root != files[start].root:
            yield Files(files[start].root, tuple(path for _, path in files[start:index]))
            start = index


def _of_shards(done: Iterable[str], shards: Sequence[Shard]) -> list[str]:
    """Pictures of a dataset that are members of some shards, or stand for a shard that could not be read."""
    names = {str(shard.place) for shard in shards}
    return [path for path in done if path in names or path.rpartition("#")[0] in names] if names else []


def _missing_shards(shards: Sequence[Shard], content: Content) -> list[Shard]:
    """The shards that are not finished, each with its members that are done."""
    missing = [shard for shard in shards if str(shard.place) not in content.finished]
    skipped: dict[str, set[str]] = {str(shard.place): set() for shard in missing}
    for path in _of_shards(content.done, missing):
        owner = path if path in skipped else path.rpartition("#")[0]
        skipped[owner].add(path)
    return [replace(shard, skipped=frozenset(skipped[str(shard.place)])) for shard in missing]


def holds(inputs: Inputs) -> Callable[[str], bool]:
    """A test whether a picture of a dataset is one of the inputs."""
    files = {shown_path(*file) for file in inputs.files}
    containers = {str(shard.place) for shard in inputs.shards} | {str(group.place) for group in inputs.row_groups}
    return lambda path: path in files or path in containers or path.rpartition("#")[0] in containers


def alone(unit: Unit) -> list[Unit]:
    """Units of one picture each, in place of a unit of many. A shard stays whole."""
    if isinstance(unit, Files):
        return [replace(unit, paths=(path,)) for path in unit.paths]
    if isinstance(unit, Shard):
        return [unit]
    rows = range(unit.first_row, unit.first_row + unit.count)
    return [replace(unit, skipped=frozenset(rows) - {row}) for row in rows if row not in unit.skipped]


def only_picture(unit: Unit) -> str | None:
    """The name of a unit's one picture; None where it has several, or nobody has counted them."""
    if isinstance(unit, Files):
        return shown_path(unit.root, unit.paths[0]) if len(unit.paths) == 1 else None
    if isinstance(unit, Shard) or unit.count - len(unit.skipped) != 1:
        return None
    rows = range(unit.first_row, unit.first_row + unit.count)
    return next(member_path(unit.place, row) for row in rows if row not in unit.skipped)
