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
    if "smoothing" in figures:
        found.append(_smoothing(figures["smoothing"]))
    if "still" in figures:
        found.append(_still(figures["still"]))
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


def _smoothing(smoothing: dict[str, Any]) -> Table:
    rows = [
        (
            f"{row['smoothing']:g}" if row["smoothing"] else "off",
            f"{100 * row['flicker']:.2f} %",
            f"{row['mean_iou']:.3f}",
            f"{row['moving_iou']:.3f}",
            f"{row['processor_ms']:.1f} ms",
        )
        for row in smoothing["rows"]
    ]
    pamr = ", PAMR" if smoothing["refine"] else ""
    title = f"smoothing, {smoothing['clips']} drawn clips of {smoothing['frames']} frames{pamr}"
    return Table((title, "flicker", "mIoU", "mIoU of what moves", "processor time a frame"), rows)


def _still(still: dict[str, Any]) -> Table:
    rows = [
        (f"{name}, {kind} time / without", f"{still[key][f'{kind}_share']:.2f}")
        for name, key in (("stream alone", "stream"), ("to an overlay", "overlay"))
        for kind in ("wall", "processor")
    ]
    rows += [
        ("frames not encoded again", f"{still['reused']}"),
        ("labels that are those of segment, mean", f"{still['mean_agreement']:.2%}"),
        ("labels that are those of segment, least of a frame", f"{still['least_agreement']:.2%}"),
    ]
    return Table((f"{still['frames']} frames, the second half still", "motion_threshold=4"), rows)


AGES = (("median", "median_age_frames"), ("99 of 100", "p99_age_frames"), ("most", "most_age_frames"))
