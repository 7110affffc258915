"""The things that stand, float or fly in a scene: each function draws one and returns the adjective for its colour.

Common arguments: `canvas`, `rng`, `x` the middle, `base` the lower edge, `size` the height, all in unit coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from training.drawing.canvas import Canvas, Colour, blend, shade

Painter = Callable[[Canvas, np.random.Generator, float, float, float], str]

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
    canvas.ellipse(
        region, (x - 0.15 * radius, middle - 0.25 * radius), 0.42 * radius, 0.36 * radius, shade(leaf, 1.14)
    )
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
        teeth = [
            (x - half + 2 * half * step / 8, low + (0.028 * size if step % 2 else 0.0)) for step in range(9)
        ]
        canvas.polygon(region, [(x, high), *reversed(teeth)], shade(needle, 0.92 + 0.09 * tier))
        canvas.polygon(region, [(x, high), (x - 0.1 * half, low), teeth[0]], shade(needle, 1.08 + 0.1 * tier))
    return "tall"


def house(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A house with a pitched roof, a door and one or two large windows (regions: house, roof, windows)."""
    walls = canvas.new_region("house")
    word, wall = (
        ("white", (226, 220, 208)), ("yellow", (226, 192, 120)), ("brick", (168, 98, 78)), ("wooden", (150, 108, 72)),
    )[rng.integers(4)]  # fmt: skip
    wall = shade(wall, rng.uniform(0.92, 1.06))
    half, eaves = 0.52 * size, base - 0.56 * size
    canvas.rectangle(walls, x - half, eaves, x + half, base, wall)
    canvas.rectangle(walls, x - half, base - 0.05 * size, x + half, base, shade(wall, 0.75))
    door = x + half * rng.choice((-0.62, 0.0, 0.62))
    canvas.rectangle(walls, door - 0.095 * size, base - 0.36 * size, door + 0.095 * size, base, (98, 62, 44))
    canvas.rectangle(walls, door - 0.07 * size, base - 0.33 * size, door + 0.07 * size, base, (122, 80, 54))
    _roof(canvas, rng, x, eaves, half, size)
    places = [x + half * place for place in (-0.56, 0.56) if abs(x + half * place - door) > 0.3 * half]
    if door == x:
        places = [x - 0.6 * half, x + 0.6 * half]
    for place in places:
        window(canvas, rng, place, base - 0.14 * size, 0.33 * size)
    return word


def _roof(canvas: Canvas, rng: np.random.Generator, x: float, eaves: float, half: float, size: float) -> None:
    region = canvas.new_region("roof")
    tiles = shade(((170, 66, 48), (112, 60, 50), (84, 92, 108))[rng.integers(3)], rng.uniform(0.9, 1.1))
    ridge, top = rng.choice((0.0, 0.55)) * half, eaves - 0.44 * size
    canvas.rectangle(
        region, x - 0.62 * half, top - 0.03 * size, x - 0.38 * half, eaves - 0.08 * size, shade(tiles, 0.7)
    )
    over = 1.14 * half
    canvas.polygon(region, [(x - over, eaves), (x - ridge, top), (x + ridge, top), (x + over, eaves)], tiles)
    canvas.polygon(
        region, [(x - over, eaves), (x + over, eaves), (x + over, eaves + 0.025 * size), (x - over, eaves + 0.025 * size)],
        shade(tiles, 0.7),
    )  # fmt: skip


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
    canvas.rectangle(
        region, x - 1.12 * half, base - 0.02 * size, x + 1.12 * half, base + 0.06 * size, (206, 200, 190)
    )
    return "bright"


def fence(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A close-boarded fence with pointed boards, from x - 1.6 size to x + 1.6 size."""
    region = canvas.new_region("fence")
    word, wood = (("wooden", (150, 104, 62)), ("white", (236, 232, 224)), ("wooden", (112, 82, 58)))[
        rng.integers(3)
    ]
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


def person(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A standing person: legs, shirt, arms, head, hair."""
    region = canvas.new_region("person")
    skin, hair = SKIN[rng.integers(4)], HAIR[rng.integers(4)]
    _, shirt = pick(rng, "red", "blue", "yellow", "white", "green", "purple")
    trousers: Colour = ((46, 56, 88), (74, 66, 60), (36, 38, 44))[rng.integers(3)]
    for side in (-1.0, 1.0):
        leg = x + side * 0.075 * size
        canvas.rectangle(
            region, leg - 0.07 * size, base - 0.46 * size, leg + 0.07 * size, base - 0.03 * size, trousers
        )
        canvas.ellipse(
            region, (leg + 0.015 * size, base - 0.02 * size), 0.085 * size, 0.03 * size, (52, 40, 36)
        )
        hand = (x + side * rng.uniform(0.2, 0.26) * size, base - 0.46 * size)
        canvas.line(
            region, [(x + side * 0.12 * size, base - 0.75 * size), hand], 0.085 * size, shade(shirt, 0.88)
        )
        canvas.ellipse(region, hand, 0.045 * size, 0.045 * size, skin)
    canvas.rectangle(
        region, x - 0.155 * size, base - 0.76 * size, x + 0.155 * size, base - 0.42 * size, shirt
    )
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
        rim = [
            (centre[0] + 0.97 * radius * math.cos(a), centre[1] + 0.97 * radius * math.sin(a)) for a in arc
        ]
        canvas.polygon(region, [centre, *rim], (244, 240, 232))
    canvas.ellipse(region, centre, 0.16 * radius, 0.16 * radius, shade(paint, 0.85))
    canvas.ellipse(
        region, (x - 0.38 * radius, base - 1.45 * radius), 0.16 * radius, 0.11 * radius, (255, 255, 255)
    )
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
        region, [(x - half, deck), (x + 1.1 * half, deck), (x + 1.03 * half, deck + 0.05 * size), (x - 0.94 * half, deck + 0.05 * size)],
        blend(paint, (255, 255, 255), 0.7),
    )  # fmt: skip
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


def rock(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A boulder: an irregular polygon with a lit and a shaded side."""
    region = canvas.new_region("rock")
    stone = shade((128, 122, 116), rng.uniform(0.75, 1.1))
    angles = np.sort(rng.uniform(-0.12, 0.12, 9) + np.linspace(math.pi, 2 * math.pi, 9))
    reach = rng.uniform(0.86, 1.08, 9)
    rim = [
        (x + 0.72 * size * r * math.cos(a), base + size * r * math.sin(a))
        for a, r in zip(angles, reach, strict=True)
    ]
    canvas.polygon(region, [(x - 0.74 * size, base), *rim, (x + 0.74 * size, base)], stone)
    canvas.polygon(region, [*rim[:6], (x - 0.1 * size, base - 0.45 * size)], shade(stone, 1.2))
    canvas.polygon(
        region, [rim[6], rim[7], (x + 0.74 * size, base), (x + 0.3 * size, base)], shade(stone, 0.78)
    )
    return "grey"


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


def cloud(canvas: Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> str:
    """A cloud with a flat foot and round heaps."""
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


PAINTERS: Final[dict[str, Painter]] = {
    "tree": tree, "pine": pine, "house": house, "window": window, "fence": fence, "flower": flower, "person": person,
    "ball": ball, "boat": boat, "car": car, "rock": rock, "umbrella": umbrella, "balloon": balloon, "tent": tent,
    "cloud": cloud, "sun": sun,
}  # fmt: skip
