"""Parity in words: stages against the reference, and precisions against backends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.commands.terminal import say

if TYPE_CHECKING:
    from t2d_runtime.bundle.manifest import Manifest, StageParity
    from t2d_runtime.commands.self_tests import SelfTest


def print_matrix(manifest: Manifest) -> None:
    """Print the verdict on each precision on each backend, a line each; those that are untested for one reason share
    a line."""
    from t2d_runtime.backends.names import BACKENDS

    untested: dict[tuple[str, str], list[str]] = {}
    for precision, verdicts in manifest.precisions.items():
        for backend, verdict in verdicts.items():
            if verdict.status == "untested":
                untested.setdefault((backend, verdict.reason), []).append(precision)
                continue
            place = f"on {backend}" if backend in BACKENDS else f"in {backend}"  # not an engine: the export's emulation
            say(_verdict(f"{precision} {place}", verdict.status, verdict.reason))
    together: dict[tuple[str, str], list[str]] = {}
    for (backend, reason), precisions in untested.items():
        together.setdefault((", ".join(precisions), reason), []).append(backend)
    for (named, reason), backends in together.items():
        say(_verdict(f"{named} on {', '.join(backends)}", "untested", reason))


def _verdict(subject: str, status: str, reason: str) -> str:
    return f"{'verdict':<15} {subject}: {status}" + (f" ({reason})" if reason else "")


def print_stages(stages: Sequence[StageParity]) -> None:
    """Print a table of stages: differences, tolerances, verdicts."""
    longest = _longest(stage.stage for stage in stages)
    say(f"{'stage':<{longest}} {'max diff':>9} {'rel. norm':>9} {'worst cos':>9} {'labels':>8}  must be")
    for s in stages:
        frobenius = "" if s.relative_frobenius is None else f"{s.relative_frobenius:.1e}"
        cosine = "" if s.cosine_worst is None else f"{s.cosine_worst:.6f}"
        agreement = "" if s.label_agreement is None else f"{s.label_agreement:.3%}"
        verdict = "" if s.passed else "  FAILED"
        limit = f"labels >= {s.tolerance:.1%}" if s.measure == "label_agreement" else ""
        limit = limit or ("rel. norm" if s.measure == "relative_frobenius" else "max diff") + f" <= {s.tolerance:.1e}"
        say(f"{s.stage:<{longest}} {s.max_abs_diff:>9.1e} {frobenius:>9} {cosine:>9} {agreement:>8}  {limit}{verdict}")


def print_precisions(bundle: Path | str, tests: Sequence[SelfTest]) -> None:
    """Print one table of several precisions: the measure that decides each stage, and what it must be."""
    from t2d_runtime.bundle.manifest import first_failure

    say(f"{bundle}: the measure that decides each stage, and its limit in brackets")
    width = 20
    named = {stage.stage: None for test in tests for stage in test.stages}
    longest = _longest(named)
    say(f"{'stage':<{longest}}" + "".join(f"{test.precision:>{width}}" for test in tests))
    for name in named:
        found = ({stage.stage: stage for stage in test.stages}.get(name) for test in tests)
        say(f"{name:<{longest}}" + "".join(f"{'' if stage is None else _decisive(stage):>{width}}" for stage in found))
    for test in tests:
        failed = first_failure(test.stages)
        where = f"{test.engine}{'' if test.device is None else f', masks on {test.device}'}"
        outcome = "passed" if failed is None else f"FAILED, first at {failed.stage}"
        say(f"{test.precision} on {where}: {outcome}")


def _longest(names: Iterable[str]) -> int:
    """Width of the column of stages."""
    return max(16, *map(len, names))


def _decisive(stage: StageParity) -> str:
    """The value that a stage's tolerance limits, and the limit."""
    value: float | None = getattr(stage, stage.measure)
    mark = "" if stage.passed else "! "
    if value is None:
        return f"{mark}none"
    if stage.measure == "label_agreement":
        return f"{mark}{value:.3%} ({stage.tolerance:.1%})"
    return f"{mark}{value:.1e} ({stage.tolerance:.1e})"


def print_verdict(stages: Sequence[StageParity]) -> int:
    """Print the table and the first failure; returns the exit status."""
    from t2d_runtime.bundle.manifest import first_failure

    print_stages(stages)
    failed = first_failure(stages)
    if failed is None:
        say("passed: every stage is within its tolerance")
        return 0
    say(f"FAILED: {failed.stage} is the first stage out of tolerance")
    return FAILED_CHECK
