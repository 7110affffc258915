"""The figures of `python -m benchmarks video` as tables."""

from __future__ import annotations

from typing import Any

from benchmarks.blocks import Block, Table


def blocks(figures: dict[str, Any]) -> list[Block]:
    """A table for each part that was measured."""
    found: list[Block] = []
    if "rate" in figures:
        rate = figures["rate"]
        rows = [(stage, f"{ms:.2f} ms") for stage, ms in rate["stages_ms"].items()]
        rows += [
            ("all stages", f"{rate['stages_total_ms']:.2f} ms"),
            ("the stream", f"{rate['whole_ms']:.2f} ms"),
            (f"allowed on {rate['cores']} cores", f"{rate['allowed_fps']:.1f} frames/s"),
            ("the stream", f"{rate['fps']:.1f} frames/s"),
            ("the image encoder alone", f"{rate['encoder_alone_fps']:.1f} frames/s"),
            ("rate / allowed rate", f"{rate['rate_share']:.2f}"),
            ("processor time of stages / of the stream", f"{rate['processor_share']:.2f}"),
            ("frames whose labels are not those of segment", f"{rate['frames_with_other_labels']}"),
        ]
        found.append(Table((f"{rate['frames']} frames, {figures['words']} words, to an overlay", "a frame"), rows))
    if "memory" in figures:
        memory = figures["memory"]
        rows = [(name, f"{memory[key]:.0f} MiB") for name, key in (("early", "early_mib"), ("late", "late_mib"))]
        found.append(
            Table((f"memory over {memory['frames']} frames", ""), [*rows, ("growth", f"{memory['growth']:.1%}")])
        )
    if "live" in figures:
        live = figures["live"]
        rows = [
            ("rate", f"{live['fps']:.1f} frames/s"),
            ("dropped, all counted" if live["counted"] else "dropped, not all counted", f"{live['dropped']}"),
            *((f"age, {name}", f"{live[key]:.1f} frame times") for name, key in AGES),
        ]
        found.append(Table((f"a live source at {live['camera_fps']:.0f} frames/s, {live['seconds']:.0f} s", ""), rows))
    return found


AGES = (("median", "median_age_frames"), ("99 of 100", "p99_age_frames"), ("most", "most_age_frames"))
