"""Trees, flowers, rocks, clouds and the sun; for the arguments see `training.drawing.things`."""

from __future__ import annotations

import math

import numpy as np

from training.drawing.canvas import Canvas, blend, shade
from training.drawing.palette import pick


def tree(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A broad-leaved tree: trunk and a crown of many round clumps."""
    region = canvas.new_region("tree")
    word, leaf = (("green", (62, 124, 48)), ("green", (90, 142, 52)), ("golden", (196, 142, 42)))[
        rng.choice(3, p=(0.5, 0.35, 0.15))
    ]
    leaf = shade(leaf, rng.uniform(0.85, 1.1))
    bark = shade((96, 70, 48), rng.uniform(0.8, 1.1))
    trunk = 0.055 * size / 0.5 + 0.015
    canvas.polygon(
        region,
        [
            (x - trunk, base),
            (x + trunk, base),
            (x + 0.55 * trunk, base - 0.5 * size),
            (x - 0.55 * trunk, base - 0.5 * size),
        ],
        bark,
    )
    middle, radius = base - 0.64 * size, 0.36 * size
    canvas.ellipse(region, (x, middle), 0.92 * radius, 0.86 * radius, shade(leaf, 0.82))
    for clump in range(14):
        angle = 2 * math.pi * clump / 14 + rng.uniform(-0.2, 0.2)
        reach = rng.uniform(0.5, 0.72)
        centre = (x + reach * radius * math.cos(angle), middle + 0.92 * reach * radius * math.sin(angle))
        lit = 0.92 - 0.22 * math.sin(angle) - 0.06 * math.cos(angle)
        canvas.ellipse(region, centre, 0.36 * radius, 0.34 * radius, shade(leaf, lit))
    canvas.ellipse(region, (x - 0.15 * radius, middle - 0.25 * radius), 0.42 * radius, 0.36 * radius, shade(leaf, 1.14))
    return word


def pine(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A conifer: a short trunk and four tiers of branches."""
    region = canvas.new_region("pine")
    needle = shade((28, 78, 62), rng.uniform(0.8, 1.15))
    width = 0.29 * size
    canvas.rectangle(region, x - 0.035 * size, base - 0.16 * size, x + 0.035 * size, base, (84, 62, 46))
    for tier in range(4):
        low = base - 0.1 * size - 0.2 * tier * size
        high = min(low - 0.34 * size, base - 0.62 * size) if tier < 3 else base - size
        half = width * (1 - 0.22 * tier)
        teeth = [(x - half + 2 * half * step / 8, low + (0.028 * size if step % 2 else 0.0)) for step in range(9)]
        canvas.polygon(region, [(x, high), *reversed(teeth)], shade(needle, 0.92 + 0.09 * tier))
        canvas.polygon(region, [(x, high), (x - 0.1 * half, low), teeth[0]], shade(needle, 1.08 + 0.1 * tier))
    return "tall"


def flower(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A large flower with petals, a heart, a stem and two leaves."""
    region = canvas.new_region("flower")
    word, petal = pick(rng, "red", "yellow", "white", "pink", "purple", "orange")
    heart = (120, 74, 30) if word in ("yellow", "orange") else (246, 200, 60)
    green = shade((60, 140, 60), rng.uniform(0.85, 1.15))
    radius = 0.34 * size
    middle = base - size + radius
    canvas.line(region, [(x, middle), (x + 0.02 * size, base - 0.3 * size), (x, base)], 0.07 * size, green)
    for side in (-1.0, 1.0):
        foot, tip = base - 0.12 * size, (x + side * 0.26 * size, base - 0.34 * size)
        canvas.polygon(
            region,
            [
                (x, foot),
                (x + side * 0.1 * size, foot - 0.2 * size),
                tip,
                (x + side * 0.2 * size, foot - 0.06 * size),
            ],
            green,
        )
    petals = int(rng.integers(6, 10))
    for number in range(petals):
        angle = 2 * math.pi * number / petals
        centre = (x + 0.6 * radius * math.cos(angle), middle + 0.6 * radius * math.sin(angle))
        canvas.ellipse(region, centre, 0.42 * radius, 0.42 * radius, shade(petal, 0.9 + 0.1 * (number % 2)))
    canvas.ellipse(region, (x, middle), 0.36 * radius, 0.36 * radius, heart)
    return word


def rock(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A boulder: an irregular polygon with a lit and a shaded side."""
    region = canvas.new_region("rock")
    stone = shade((128, 122, 116), rng.uniform(0.75, 1.1))
    angles = np.sort(rng.uniform(-0.12, 0.12, 9) + np.linspace(math.pi, 2 * math.pi, 9))
    reach = rng.uniform(0.86, 1.08, 9)
    rim = [
        (x + 0.72 * size * r * math.cos(a), base + size * r * math.sin(a)) for a, r in zip(angles, reach, strict=True)
    ]
    canvas.polygon(region, [(x - 0.74 * size, base), *rim, (x + 0.74 * size, base)], stone)
    canvas.polygon(region, [*rim[:6], (x - 0.1 * size, base - 0.45 * size)], shade(stone, 1.2))
    canvas.polygon(region, [rim[6], rim[7], (x + 0.74 * size, base), (x + 0.3 * size, base)], shade(stone, 0.78))
    return "grey"


def cloud(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A cloud with a flat base and round tops."""
    region = canvas.new_region("cloud")
    tone = shade((244, 244, 246), rng.uniform(0.9, 1.0))
    half = 1.05 * size
    canvas.ellipse(region, (x, base - 0.2 * size), half, 0.24 * size, shade(tone, 0.9))
    for place in (-0.55, 0.5, -0.15, 0.2):
        bump = size * rng.uniform(0.3, 0.42)
        canvas.ellipse(region, (x + place * half, base - 0.18 * size - 0.75 * bump), 1.1 * bump, bump, tone)
    return "white"


def sun(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """The sun: a bright disc inside a warm one."""
    region = canvas.new_region("sun")
    warm = blend((255, 214, 70), (252, 150, 60), rng.random())
    canvas.ellipse(region, (x, base - size / 2), size / 2, size / 2, warm)
    canvas.ellipse(region, (x, base - size / 2), 0.4 * size, 0.4 * size, blend(warm, (255, 250, 210), 0.5))
    return "bright"
