"""Reads the committed result files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2d_runtime.errors import DataError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Result:
    """One file: the command, the machine and the figures."""

    name: str
    command: str
    provenance: dict[str, Any]
    figures: dict[str, Any]


class Results:
    """A folder of result files by name."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[Result]:
        return (self.read(path.stem) for path in sorted(self.folder.glob("*.json")))

    def named(self, beginning: str) -> list[Result]:
        """Files whose name begins so, sorted by name."""
        return [result for result in self if result.name.startswith(beginning)]

    def read(self, name: str) -> Result:
        """Read one file. Raises DataError where it is missing or was not written by `write_results`."""
        path = self.folder / f"{name}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return Result(name, content["command"], content["provenance"], content["figures"])
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing; see benchmarks/README.md for the command that makes it") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a result file ({error!r}); make it again") from error
