"""The tables that `python -m benchmarks latency` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.latency.sweeps import Sweep


def print_stages(stages: Mapping[str, Mapping[str, Any]]) -> None:
    """A line a stage."""
    print(f"\n{'one window':<24}{'PyTorch ms':>11}{'runtime ms':>11}{'p95':>9}{'faster':>9}  95% interval")
    for name, row in stages.items():
        theirs = "" if row["torch_ms"] is None else f"{row['torch_ms']:.2f}"
        faster = interval = ""
        if row["faster"] is not None:
            faster, interval = f"{row['faster']:.2f}x", f"{row['faster_low']:.2f} to {row['faster_high']:.2f}"
        print(f"{name:<24}{theirs:>11}{row['runtime_ms']:>11.2f}{row['runtime_p95_ms']:>9.2f}{faster:>9}  {interval}")


def print_encoders(rows: Sequence[Mapping[str, Any]], roofline: Mapping[str, Any]) -> None:
    """A line a contender, and the machine's rates."""
    print(f"\n{'image encoder':<30}{'p50 ms':>9}{'p95':>9}{'faster':>9}  95% interval {'floor ms':>9}{'reached':>9}")
    for row in rows:
        ratio = row["faster"]
        faster = f"{ratio['median']:>8.2f}x  {ratio['low']:>5.2f} to {ratio['high']:<5.2f}"
        floor = "" if row["floor_ms"] is None else f"{row['floor_ms']:>9.1f}{row['share_of_rate']:>9.0%}"
        print(f"{row['name']:<30}{row['p50_ms']:>9.1f}{row['p95_ms']:>9.1f}{faster}{floor}")
    rates = ", ".join(f"{value / 1e12:.2f} TFLOP/s in {name}" for name, value in roofline["flop_per_second"].items())
    print(f"floor: {roofline['encoder_flop'] / 1e9:.1f} GFLOP a window at the rate of matrix products here, {rates}")


def print_starts(starts: Mapping[str, Any]) -> None:
    """Two lines."""
    from t2d_runtime.bench.bench_table import start_line
    from t2d_runtime.bench.measure import StartTime

    print("\na new process to its first mask, PAMR included")
    for name, start in starts.items():
        print(f"{name:<24}{start_line(StartTime(**start))}")


def print_sweep(sweep: Sweep) -> None:
    """A column a value, a line a contender."""
    print(f"\n{sweep.quantity + ', ' + sweep.unit:<30}" + "".join(f"{value:>18}" for value in sweep.values))
    print(f"{'rounds':<30}" + "".join(f"{count:>18}" for count in sweep.rounds))
    for contender, times in sweep.series.items():
        print(f"{contender:<30}" + "".join(f"{'-' if time is None else format(time, '.1f'):>18}" for time in times))
