"""What every inference engine offers: loading a graph, and running it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Engine(Protocol):
    """One compiled graph. `run` is safe to call from several threads."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name. Raises BackendError where the engine fails."""


class Backend(Protocol):
    """An inference engine on this machine."""

    name: str
    native_precisions: tuple[str, ...]
    """Precisions that the engine makes of the float32 graph itself."""

    def description(self) -> str:
        """Engine and version, for logs and reports."""

    def load(self, graph: Path, *, precision: str, num_threads: int | None) -> Engine:
        """Compile a graph. `num_threads` None lets the engine choose.

        Raises BackendError for a graph that the engine refuses.
        """
