"""The interface of every inference engine: it loads a bundle's graphs and runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from t2d_runtime.bundle.files import ENCODERS, Bundle
from t2d_runtime.device.arrays import DeviceArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class EngineIdentity:
    """Everything besides the model that decides an engine's results. A self-test's verdict holds for one identity."""

    engine: str
    version: str
    device: str
    driver: str = ""
    """Version of the device's driver, where it has one of its own."""

    def __str__(self) -> str:
        driver = f", driver {self.driver}" if self.driver else ""
        return f"{self.engine} {self.version}, {self.device}{driver}"


class Engine(Protocol):
    """One compiled graph. `run` is safe to call from several threads."""

    inputs: frozenset[str]
    """Names of the graph's inputs."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name. Raises BackendError where the engine fails."""


@runtime_checkable
class DeviceEngine(Protocol):
    """An engine on GPU 0 that can leave its outputs there."""

    def run_on_device(self, inputs: Arrays) -> list[dict[str, DeviceArray]]:
        """All outputs by name, once for each part of the batch that the engine takes at a time, in order.

        Safe to call from several threads. Raises BackendError where the engine fails, or an output is not float32.
        """


class Backend(Protocol):
    """An inference engine on this machine."""

    name: str

    @property
    def identity(self) -> EngineIdentity:
        """Engine, version, device and driver."""

    def refusal(self, precision: str) -> str | None:
        """The reason why a precision cannot run here, with any bundle; None where it can."""

    def precisions(self, bundle: Bundle) -> tuple[str, ...]:
        """Precisions in which this backend can run a bundle here."""

    def digests(self, bundle: Bundle, precision: str, graphs: Sequence[str] = ENCODERS) -> tuple[str, ...]:
        """sha256 of every file that the backend would load for some graphs."""

    def load(self, bundle: Bundle, graph: str, *, precision: str, num_threads: int | None) -> Engine:
        """Compile one of ENCODERS, or SEGMENTER. `num_threads` None lets the engine choose.

        Raises BundleError where the bundle does not hold the graph, BackendError where the engine refuses it.
        """
