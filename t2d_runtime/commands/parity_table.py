"""Parity in words: stages against the reference, and precisions against backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.commands.terminal import say

if TYPE_CHECKING:
    from t2d_runtime.bundle.manifest import Manifest, StageParity


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
    say(f"{'stage':<16} {'max diff':>9} {'rel. norm':>9} {'worst cos':>9} {'labels':>8}  must be")
    for s in stages:
        frobenius = "" if s.relative_frobenius is None else f"{s.relative_frobenius:.1e}"
        cosine = "" if s.cosine_worst is None else f"{s.cosine_worst:.6f}"
        agreement = "" if s.label_agreement is None else f"{s.label_agreement:.3%}"
        verdict = "" if s.passed else "  FAILED"
        limit = f"labels >= {s.tolerance:.1%}" if s.measure == "label_agreement" else ""
        limit = limit or ("rel. norm" if s.measure == "relative_frobenius" else "max diff") + f" <= {s.tolerance:.1e}"
        say(f"{s.stage:<16} {s.max_abs_diff:>9.1e} {frobenius:>9} {cosine:>9} {agreement:>8}  {limit}{verdict}")


def print_verdict(stages: Sequence[StageParity]) -> int:
    """Print the table and the first failure; returns the exit status."""
    from t2d_runtime.bundle.manifest import first_failure

    print_stages(stages)
    failed = first_failure(stages)
    if failed is None:
        say("passed: every stage matches the reference within its tolerance")
        return 0
    say(f"FAILED: {failed.stage} is the first stage out of tolerance")
    return FAILED_CHECK
