"""Engine versions that compute wrong results according to public reports.

They explain a failed self-test and warn early. The self-test alone decides whether an engine is used here: a report
names versions, not every case.
"""

from __future__ import annotations

from dataclasses import dataclass

from t2d_runtime.backends.base import EngineIdentity


@dataclass(frozen=True)
class Report:
    """One public report of wrong results."""

    engine: str
    versions: tuple[str, ...]
    """Beginnings of version numbers."""
    device: str
    """Part of the device's name; empty for all."""
    precisions: tuple[str, ...]
    symptom: str
    repair: str
    source: str

    def concerns(self, identity: EngineIdentity, precision: str) -> bool:
        """True where this report is about the engine in this precision."""
        return (
            self.engine in identity.engine
            and any(f"{identity.version}.".startswith(f"{version}.") for version in self.versions)
            and self.device in identity.device
            and precision in self.precisions
        )

    def __str__(self) -> str:
        return f"{self.engine} {' and '.join(self.versions)}: {self.symptom} ({self.source}); {self.repair}"


ALL_PRECISIONS = ("fp32", "fp16", "bf16", "int8")

REPORTS = (
    Report(
        engine="TensorRT",
        versions=("10.3", "10.4"),
        device="",
        precisions=ALL_PRECISIONS,
        symptom="vision transformers of the DINO family give wrong features, in float32 too",
        repair="update TensorRT (JetPack 6.2 brings 10.3) and build the engines again",
        source="https://github.com/NVIDIA/TensorRT/issues/4723, 4742 and 4558",
    ),
    Report(
        engine="TensorRT",
        versions=("10",),
        device="compute capability 12.0",
        precisions=("fp16", "bf16"),
        symptom="fused attention gives wrong results on sm_120",
        repair="use fp32, or another TensorRT version",
        source="https://github.com/NVIDIA/TensorRT/issues/4837",
    ),
)


def reports_on(identity: EngineIdentity, precision: str) -> list[Report]:
    """Reports about an engine in a precision."""
    return [report for report in REPORTS if report.concerns(identity, precision)]
