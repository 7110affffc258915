"""Houses with roofs and windows, fences, tents; for the arguments see `training.drawing.things`."""

from __future__ import annotations

import numpy as np

from training.drawing.canvas import Canvas, Colour, shade
from training.drawing.palette import pick


def house(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A house with a pitched or a flat roof, a door, and up to two large windows (regions: house, roof, windows)."""
    walls = canvas.new_region("house")
    word, wall = wall_colour(rng)
    half, eaves = 0.52 * size, base - 0.56 * size
    canvas.rectangle(walls, x - half, eaves, x + half, base, wall)
    canvas.rectangle(walls, x - half, base - 0.05 * size, x + half, base, shade(wall, 0.75))
    place = float(rng.choice((-0.62, 0.0, 0.62)))
    door = x + half * place
    canvas.rectangle(walls, door - 0.095 * size, base - 0.36 * size, door + 0.095 * size, base, (98, 62, 44))
    canvas.rectangle(walls, door - 0.07 * size, base - 0.33 * size, door + 0.07 * size, base, (122, 80, 54))
    # Houses without a roof or windows, so that captions teach the words for the parts separately.
    if rng.random() < 0.7:
        _roof(canvas, rng, x, eaves, half, size)
    else:
        canvas.rectangle(walls, x - 1.06 * half, eaves - 0.06 * size, x + 1.06 * half, eaves, shade(wall, 0.85))
    if rng.random() < 0.65:
        for side in (-0.6, 0.6):
            if abs(side - place) > 0.3:
                window(canvas, rng, x + side * half, base - 0.14 * size, 0.33 * size)
    return word


def wall_colour(rng: np.random.Generator) -> tuple[str, Colour]:
    """The colour of a house's walls and its word."""
    word, wall = (
        ("white", (226, 220, 208)),
        ("yellow", (226, 192, 120)),
        ("brick", (168, 98, 78)),
        ("wooden", (150, 108, 72)),
    )[rng.integers(4)]
    return word, shade(wall, rng.uniform(0.92, 1.06))


def roof_colour(rng: np.random.Generator) -> Colour:
    """The colour of a roof's tiles."""
    return shade(((170, 66, 48), (112, 60, 50), (84, 92, 108))[rng.integers(3)], rng.uniform(0.9, 1.1))


def _roof(canvas: Canvas, rng: np.random.Generator, x: float, eaves: float, half: float, size: float) -> None:
    region = canvas.new_region("roof")
    tiles = roof_colour(rng)
    ridge, top = rng.choice((0.0, 0.55)) * half, eaves - 0.44 * size
    canvas.rectangle(
        region, x - 0.62 * half, top - 0.03 * size, x - 0.38 * half, eaves - 0.08 * size, shade(tiles, 0.7)
    )
    over = 1.14 * half
    canvas.polygon(region, [(x - over, eaves), (x - ridge, top), (x + ridge, top), (x + over, eaves)], tiles)
    canvas.polygon(
        region,
        [(x - over, eaves), (x + over, eaves), (x + over, eaves + 0.025 * size), (x - over, eaves + 0.025 * size)],
        shade(tiles, 0.7),
    )


def window(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A window: frame, panes, a reflection, a sill."""
    region = canvas.new_region("window")
    half = 0.47 * size
    pane = shade((96, 138, 168) if rng.random() < 0.7 else (238, 208, 128), rng.uniform(0.9, 1.1))
    canvas.rectangle(region, x - half, base - size, x + half, base, (244, 242, 236))
    inner, bar = half - 0.07 * size, 0.05 * size
    canvas.rectangle(region, x - inner, base - 0.93 * size, x + inner, base - 0.07 * size, pane)
    canvas.polygon(
        region,
        [
            (x - inner, base - 0.3 * size),
            (x - inner, base - 0.93 * size),
            (x + 0.2 * inner, base - 0.93 * size),
        ],
        shade(pane, 1.12),
    )
    canvas.rectangle(region, x - bar / 2, base - 0.95 * size, x + bar / 2, base, (244, 242, 236))
    canvas.rectangle(
        region, x - half, base - 0.5 * size - bar / 2, x + half, base - 0.5 * size + bar / 2, (244, 242, 236)
    )
    canvas.rectangle(region, x - 1.12 * half, base - 0.02 * size, x + 1.12 * half, base + 0.06 * size, (206, 200, 190))
    return "bright"


def fence(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A close-boarded fence with pointed boards, from x - 1.6 size to x + 1.6 size."""
    region = canvas.new_region("fence")
    word, wood = (("wooden", (150, 104, 62)), ("white", (236, 232, 224)), ("wooden", (112, 82, 58)))[rng.integers(3)]
    width = 0.18 * size
    boards = int(3.2 * size / width)
    left = x - boards * width / 2
    for board in range(boards):
        start, tone = left + board * width, shade(wood, rng.uniform(0.9, 1.05))
        tip = base - size
        canvas.polygon(
            region,
            [
                (start, base),
                (start, tip + 0.12 * size),
                (start + width / 2, tip),
                (start + width, tip + 0.12 * size),
                (start + width, base),
            ],
            tone,
        )
        canvas.line(region, [(start, base), (start, tip + 0.12 * size)], 0.004, shade(tone, 0.6))
    for height in (0.3, 0.74):
        canvas.rectangle(
            region,
            left,
            base - (height + 0.06) * size,
            left + boards * width,
            base - height * size,
            shade(wood, 0.8),
        )
    return word


def tent(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A ridge tent with an open entrance."""
    region = canvas.new_region("tent")
    word, paint = pick(rng, "red", "blue", "yellow", "orange", "green")
    half = 0.82 * size
    canvas.polygon(
        region,
        [
            (x - half, base),
            (x - 0.2 * size, base - size),
            (x + 0.42 * size, base - 0.96 * size),
            (x + 1.15 * half, base - 0.06 * size),
        ],
        shade(paint, 0.78),
    )
    canvas.polygon(region, [(x - half, base), (x - 0.2 * size, base - size), (x + 0.5 * half, base)], paint)
    canvas.polygon(
        region,
        [(x - 0.42 * size, base), (x - 0.2 * size, base - 0.68 * size), (x + 0.08 * size, base)],
        shade(paint, 0.42),
    )
    return word
