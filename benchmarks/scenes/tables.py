"""mIoU on drawn scenes as a chart and a table."""

from __future__ import annotations

from typing import Any

from benchmarks.blocks import Bar, Bars, Block, Table

PROTOCOLS = {
    "present": "the words of what is there",
    "vocabulary": "all words",
    "background": "half of the words, the rest background",
    "tuned": "the same, a threshold for each word",
}
"""Protocol -> its description."""


def blocks(figures: dict[str, Any]) -> list[Block]:
    """mIoU by protocol, and IoU by class, with the best class of `present` first."""
    protocols = {key: name for key, name in PROTOCOLS.items() if key in figures}
    found = {name: figures["per_class"][key] for key, name in protocols.items()}
    present = figures["per_class"]["present"]
    names = sorted(dict.fromkeys(name for one in found.values() for name in one), key=lambda n: -present.get(n, 0))
    rows = [(name, *(f"{one[name]:.3f}" if name in one else "" for one in found.values())) for name in names]
    bars = tuple(Bar(name, {"": figures[key]}, f"{figures[key]:.3f}", 1.0) for key, name in protocols.items())
    pamr = ", PAMR" * figures["refine"]
    return [
        Table(("IoU", *found), rows),
        Bars(f"mIoU of {figures['bundle']} on {figures['count']} held-out drawn scenes{pamr}", bars),
    ]
