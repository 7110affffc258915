"""How much of its tolerance a stage uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def share_used(stage: Mapping[str, Any]) -> float | None:
    """0 to 1 within tolerance, by the stage's own measure; None where it has to be exact or is only reported."""
    tolerance, measure = stage["tolerance"], stage["measure"]
    if measure == "label_agreement":
        return (1 - stage["label_agreement"]) / (1 - tolerance) if tolerance < 1 else None
    return stage[measure] / tolerance if tolerance else None
