"""Records of the evaluated images, and their file, from which an interrupted run continues.

The file has one line for each finished image. All figures are sums of integers in these lines, so that they are the
same after any interruption and with any number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.accuracy.metric import Cells
from t2d_runtime.errors import CheckpointError, OutputError
from t2d_runtime.storage.strict_json import parse_json
from t2d_runtime.storage.whole_file import whole_file

RECORDS: Final = "images.jsonl"
SCHEMA_VERSION: Final = 1


@dataclass(frozen=True)
class Against:
    """Comparison with the PyTorch reference on one image."""

    cells: Cells
    """The reference's confusion with the truth."""
    pixels: int
    differing: int
    """Pixels of the whole image, ignored ones too, to which bundle and reference give different labels."""
    below_margin: int
    """Those of them where the reference's two best scores differ by less than float32's accuracy."""
    largest_margin: float
    """Largest difference of the reference's two best scores among the differing pixels; 0 where none differs."""


@dataclass(frozen=True)
class ImageRecord:
    """One evaluated image."""

    name: str
    cells: Cells
    """The bundle's confusion with the truth."""
    against: Against | None = None


class RecordFile:
    """The records of a run, on disk."""

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self._run = json.loads(json.dumps(run))

    @classmethod
    def open(cls, path: Path, run: Mapping[str, Any], *, resume: bool) -> tuple[RecordFile, list[ImageRecord]]:
        """Open the file of a run; returns it and the records in it.

        `run` holds all settings that decide the figures. Raises CheckpointError where the file exists and `resume` is
        not set, or where it is of another run or damaged; OutputError where it cannot be written.
        """
        records = cls(path, run)
        if not path.exists():
            with whole_file(path) as file:
                file.write(_line({"schema_version": SCHEMA_VERSION, "run": records._run}))
            return records, []
        if not resume:
            raise CheckpointError(f"{path} holds an earlier run; go on with --resume, or give another --output")
        return records, records._read()

    def append(self, record: ImageRecord) -> None:
        """Add one image. Raises OutputError."""
        try:
            with self.path.open("ab") as file:
                file.write(_line(asdict(record)))
        except OSError as error:
            raise self._unwritable(error) from error

    def _read(self) -> list[ImageRecord]:
        """Read the complete lines. The rest of an interrupted write after them is cut off."""
        try:
            content = self.path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                with self.path.open("r+b") as file:
                    file.truncate(len(whole))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            first, *lines = (json.loads(line) for line in whole.splitlines())
        except ValueError as error:
            raise CheckpointError(f"{self.path} is damaged ({error}); delete it to start anew") from error
        self._check_same_run(first)
        records = [
            parse_json(ImageRecord, line, f"{self.path}, line {number}", CheckpointError)
            for number, line in enumerate(lines, start=2)
        ]
        if len({record.name for record in records}) < len(records):
            raise CheckpointError(f"{self.path} holds an image twice, from two runs at once; delete it to start anew")
        return records

    def _check_same_run(self, header: Any) -> None:
        if not isinstance(header, dict) or header.get("schema_version") != SCHEMA_VERSION:
            raise CheckpointError(
                f"{self.path} is no file of this version, schema {SCHEMA_VERSION}; delete it, or give another --output"
            )
        found = header.get("run")
        if found != self._run:
            found = found if isinstance(found, dict) else {}
            keys = [key for key in self._run if found.get(key) != self._run[key]]
            changes = ", ".join(f"{key} was {found.get(key)!r:.60}, now {self._run[key]!r:.60}" for key in keys)
            raise CheckpointError(f"{self.path} is of another run ({changes}); give its settings, or another --output")

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror}; choose another --output")


def _line(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, separators=(",", ":")) + "\n").encode()
