"""Tables of the figures of engines."""

from __future__ import annotations

from typing import Any

from benchmarks.blocks import Block, Table, number

STAGES = {"patch_tokens": "tokens", "cls_attention": "attention", "text_embeds": "text"}
"""Stages of the self-test whose relative error is a column."""


def blocks(figures: dict[str, Any]) -> list[Block]:
    """Tables of precisions and backends, and of the fused graph and builds where there are some."""
    scenes = figures["scenes"]
    judged = f"{scenes} held-out scenes; labels: share equal to those of float32 on ONNX Runtime" if scenes else ""
    found: list[Block] = [_combinations(figures["combinations"]), f"{figures['backbone']}, {judged or 'times alone'}."]
    if fused := figures.get("fused"):
        found.append(_fused(fused))
    if builds := figures["tensorrt_rtx"]:
        # Files of the first version lack this field, and have no fused graph.
        refused = [
            f"{build['precision']} for {build['target']}: {build['error']}" for build in builds if build["error"]
        ]
        of_graph = sum(build.get("fused", False) for build in builds)
        kinds = f"{len(builds) - of_graph} of the encoders, {of_graph} of the fused graph"
        found += [
            f"TensorRT for RTX, not run: {len(builds) - len(refused)} of {len(builds)} built ({kinds}).",
            *refused,
            *_attentions(builds),
        ]
    return found


def _attentions(builds: list[dict[str, Any]]) -> list[str]:
    """A sentence on the attentions that the encoders' engines compute in one kernel, by precision."""
    found: dict[str, str] = {}
    for build in builds:
        # Files of earlier versions lack this field.
        if (counts := build.get("fused_attentions")) and not build["fused"]:
            found[build["precision"]] = " + ".join(map(str, counts.values()))
    told = ", ".join(f"{precision} {count}" for precision, count in found.items())
    return [f"Attentions of the image and the text encoder in one kernel each: {told}."] if found else []


def _combinations(combinations: list[dict[str, Any]]) -> Table:
    headers = (
        "precision",
        "backend",
        "MiB",
        "load ms",
        "cached",
        "image ms",
        "text ms",
        *STAGES.values(),
        "labels",
        "mIoU",
    )
    rows = []
    for row in combinations:
        errors = {stage["stage"]: stage["relative_frobenius"] for stage in row["stages"]}
        times = (row[key] for key in ("load_ms", "cached_load_ms", "image_encoder_ms", "text_encoder_ms"))
        rows.append(
            (
                row["precision"],
                row["backend"],
                f"{row['size_bytes'] / 2**20:.0f}",
                *map(number, times),
                *(f"{errors[name]:.1e}" for name in STAGES),
                "" if row["label_agreement"] is None else f"{row['label_agreement']:.2%}",
                "" if row["miou"] is None else f"{row['miou']:.3f}",
            )
        )
    return Table(headers, rows)


def _fused(rows: list[dict[str, Any]]) -> Table:
    """Table of the fused graph against the runtime."""
    headers = ("fused graph, float32", "PAMR", "graph ms", "runtime ms", "labels equal")
    cells = [
        (
            row["backend"],
            "yes" if row["refine"] else "no",
            number(row["fused_ms"]),
            number(row["runtime_ms"]),
            f"{row['label_agreement']:.3%}",
        )
        for row in rows
    ]
    return Table(headers, cells)
