"""People, balls, boats, cars, umbrellas, balloons; for the arguments see `training.drawing.things`."""

from __future__ import annotations

import math

import numpy as np

from training.drawing.canvas import Canvas, Colour, blend, shade
from training.drawing.palette import HAIR, SKIN, pick


def person(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A standing person: legs, shirt, arms, head, hair."""
    region = canvas.new_region("person")
    skin, hair = SKIN[rng.integers(4)], HAIR[rng.integers(4)]
    _, shirt = pick(rng, "red", "blue", "yellow", "white", "green", "purple")
    trousers: Colour = ((46, 56, 88), (74, 66, 60), (36, 38, 44))[rng.integers(3)]
    for side in (-1.0, 1.0):
        leg = x + side * 0.075 * size
        canvas.rectangle(region, leg - 0.07 * size, base - 0.46 * size, leg + 0.07 * size, base - 0.03 * size, trousers)
        canvas.ellipse(region, (leg + 0.015 * size, base - 0.02 * size), 0.085 * size, 0.03 * size, (52, 40, 36))
        hand = (x + side * rng.uniform(0.2, 0.26) * size, base - 0.46 * size)
        canvas.line(region, [(x + side * 0.12 * size, base - 0.75 * size), hand], 0.085 * size, shade(shirt, 0.88))
        canvas.ellipse(region, hand, 0.045 * size, 0.045 * size, skin)
    canvas.rectangle(region, x - 0.155 * size, base - 0.76 * size, x + 0.155 * size, base - 0.42 * size, shirt)
    canvas.ellipse(region, (x, base - 0.76 * size), 0.155 * size, 0.05 * size, shirt)
    canvas.ellipse(region, (x, base - 0.9 * size), 0.108 * size, 0.115 * size, hair)
    canvas.ellipse(region, (x, base - 0.875 * size), 0.088 * size, 0.095 * size, skin)
    return "standing"


def ball(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A beach ball: coloured and white sectors, a highlight."""
    region = canvas.new_region("ball")
    word, paint = pick(rng, "red", "blue", "yellow", "orange", "purple")
    radius, tilt = size / 2, rng.uniform(0, math.pi)
    centre = (x, base - radius)
    canvas.ellipse(region, centre, radius, radius, paint)
    for sector in range(3):
        start = tilt + 2 * math.pi * sector / 3
        arc = [start + math.pi / 3 * step / 8 for step in range(9)]
        rim = [(centre[0] + 0.97 * radius * math.cos(a), centre[1] + 0.97 * radius * math.sin(a)) for a in arc]
        canvas.polygon(region, [centre, *rim], (244, 240, 232))
    canvas.ellipse(region, centre, 0.16 * radius, 0.16 * radius, shade(paint, 0.85))
    canvas.ellipse(region, (x - 0.38 * radius, base - 1.45 * radius), 0.16 * radius, 0.11 * radius, (255, 255, 255))
    return word


def boat(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A sailing boat: hull with a stripe, mast, two sails."""
    region = canvas.new_region("boat")
    word, paint = pick(rng, "red", "blue", "white", "green", "yellow")
    half, deck = 0.46 * size, base - 0.24 * size
    canvas.rectangle(region, x - 0.025 * size, base - size, x + 0.025 * size, deck, (112, 78, 50))
    sail = ((246, 242, 230), (236, 214, 170), (216, 96, 72))[rng.integers(3)]
    canvas.polygon(
        region,
        [
            (x + 0.03 * size, base - 0.98 * size),
            (x + 0.44 * size, deck - 0.05 * size),
            (x + 0.03 * size, deck - 0.05 * size),
        ],
        sail,
    )
    canvas.polygon(
        region,
        [
            (x - 0.03 * size, base - 0.88 * size),
            (x - 0.36 * size, deck - 0.05 * size),
            (x - 0.03 * size, deck - 0.05 * size),
        ],
        shade(sail, 0.9),
    )
    canvas.polygon(
        region,
        [(x - half, deck), (x + 1.1 * half, deck), (x + 0.72 * half, base), (x - 0.7 * half, base)],
        paint,
    )
    canvas.polygon(
        region,
        [
            (x - half, deck),
            (x + 1.1 * half, deck),
            (x + 1.03 * half, deck + 0.05 * size),
            (x - 0.94 * half, deck + 0.05 * size),
        ],
        blend(paint, (255, 255, 255), 0.7),
    )
    return word


def car(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A car from the side: body, cabin with panes, wheels, lamp."""
    region = canvas.new_region("car")
    word, paint = pick(rng, "red", "blue", "yellow", "white", "green", "orange")
    half, wheel = 1.05 * size, 0.2 * size
    low, belt = base - 0.16 * size, base - 0.58 * size
    canvas.polygon(
        region,
        [
            (x - 0.62 * half, belt),
            (x - 0.42 * half, base - size),
            (x + 0.3 * half, base - size),
            (x + 0.6 * half, belt),
        ],
        paint,
    )
    canvas.polygon(
        region,
        [
            (x - half, low),
            (x - half, belt + 0.06 * size),
            (x - 0.9 * half, belt),
            (x + 0.84 * half, belt),
            (x + half, belt + 0.14 * size),
            (x + half, low),
        ],
        paint,
    )
    glass = (64, 84, 102)
    canvas.polygon(
        region,
        [
            (x - 0.5 * half, belt),
            (x - 0.36 * half, base - 0.92 * size),
            (x - 0.08 * half, base - 0.92 * size),
            (x - 0.08 * half, belt),
        ],
        glass,
    )
    canvas.polygon(
        region,
        [(x, belt), (x, base - 0.92 * size), (x + 0.25 * half, base - 0.92 * size), (x + 0.48 * half, belt)],
        glass,
    )
    canvas.rectangle(region, x - half, low - 0.06 * size, x + half, low, shade(paint, 0.7))
    canvas.ellipse(region, (x + 0.94 * half, belt + 0.2 * size), 0.05 * half, 0.06 * size, (252, 236, 170))
    for side in (-0.58, 0.58):
        canvas.ellipse(region, (x + side * half, base - wheel), wheel, wheel, (34, 34, 38))
        canvas.ellipse(region, (x + side * half, base - wheel), 0.5 * wheel, 0.5 * wheel, (176, 178, 182))
    return word


def umbrella(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A beach umbrella: a striped dome on a pole."""
    region = canvas.new_region("umbrella")
    word, paint = pick(rng, "red", "blue", "yellow", "green", "orange", "pink")
    rim, half = base - 0.5 * size, 0.6 * size
    canvas.rectangle(region, x - 0.028 * size, rim, x + 0.028 * size, base, (214, 206, 192))
    edge = np.linspace(math.pi, 2 * math.pi, 31)
    dome = [(x + half * math.cos(a), rim + 0.5 * size * math.sin(a)) for a in edge]
    canvas.polygon(region, dome, paint)
    for stripe in (1, 3, 5):
        part = dome[5 * stripe : 5 * stripe + 6] if stripe < 5 else dome[25:31]
        canvas.polygon(region, [(x, rim - 0.5 * size), *part], (246, 242, 232))
    canvas.ellipse(region, (x, rim - 0.5 * size), 0.03 * size, 0.03 * size, paint)
    return word


def balloon(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A hot-air balloon: striped envelope, ropes, basket."""
    region = canvas.new_region("balloon")
    word, paint = pick(rng, "red", "yellow", "orange", "purple", "blue")
    radius = 0.36 * size
    middle, basket = base - size + radius, base - 0.13 * size
    second = blend(paint, (255, 240, 210), 0.75)
    canvas.polygon(
        region,
        [
            (x - 0.9 * radius, middle + 0.42 * radius),
            (x + 0.9 * radius, middle + 0.42 * radius),
            (x + 0.14 * size, basket),
            (x - 0.14 * size, basket),
        ],
        paint,
    )
    for share, colour in ((1.0, paint), (0.68, second), (0.34, paint)):
        canvas.ellipse(region, (x, middle), share * radius, radius, colour)
    canvas.polygon(
        region,
        [
            (x - 0.3 * radius, middle + 0.9 * radius),
            (x + 0.3 * radius, middle + 0.9 * radius),
            (x + 0.06 * size, basket),
            (x - 0.06 * size, basket),
        ],
        second,
    )
    canvas.rectangle(region, x - 0.1 * size, basket, x + 0.1 * size, base, (134, 88, 48))
    return word
