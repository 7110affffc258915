"""Paints, skin and hair."""

from __future__ import annotations

from typing import Final

import numpy as np

from training.drawing.canvas import Colour, shade

PAINTS: Final[dict[str, Colour]] = {
    "red": (205, 48, 44),
    "blue": (44, 86, 178),
    "yellow": (240, 196, 52),
    "white": (238, 236, 230),
    "orange": (236, 128, 40),
    "purple": (124, 66, 150),
    "pink": (232, 120, 160),
    "green": (46, 128, 92),
}
SKIN: Final[tuple[Colour, ...]] = ((242, 206, 176), (214, 164, 126), (150, 102, 70), (96, 64, 46))
HAIR: Final[tuple[Colour, ...]] = ((40, 30, 26), (96, 62, 34), (206, 168, 92), (60, 60, 62))


def pick(rng: np.random.Generator, *names: str) -> tuple[str, Colour]:
    """One of the named paints, a little lighter or darker."""
    name = names[int(rng.integers(len(names)))]
    return name, shade(PAINTS[name], rng.uniform(0.9, 1.08))
