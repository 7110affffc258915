"""Kinds of scenes (beach, street, mountains, ...), times of day and weathers, from which compositions are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from training.drawing.canvas import Colour

# Heights of things, share of the picture's side. Everything is at least three patches of 14 in 224 pixels wide.
SIZES: Final[dict[str, tuple[float, float]]] = {
    "tree": (0.46, 0.66),
    "pine": (0.48, 0.68),
    "house": (0.56, 0.74),
    "window": (0.34, 0.5),
    "fence": (0.21, 0.27),
    "flower": (0.34, 0.52),
    "person": (0.46, 0.64),
    "ball": (0.21, 0.32),
    "boat": (0.34, 0.5),
    "car": (0.24, 0.32),
    "rock": (0.18, 0.27),
    "umbrella": (0.42, 0.58),
    "balloon": (0.36, 0.5),
    "tent": (0.28, 0.38),
    "cloud": (0.2, 0.28),
    "sun": (0.2, 0.27),
}
SKY_THINGS: Final = {"cloud": 0.85, "sun": 0.45, "balloon": 0.4}  # and the probability that a sky has one
ONLY_ON: Final = {"sea": ("boat", "rock"), "house": ("window",), "roof": ()}
"""Things that may stand on these bands. Other bands take everything."""
AT_HOME: Final = {"boat": "sea", "car": "road", "window": "house"}
"""The band on which a thing always stands, where there is one."""


@dataclass(frozen=True)
class Layout:
    """A kind of scene. `bands` are sequences of ground from far to near; one is drawn, with things on it.

    `horizon` is the range of the sky's share (0, 0: no sky). `place` is a name for the scene in captions.
    """

    place: str
    bands: tuple[tuple[str, ...], ...]
    things: tuple[str, ...]
    horizon: tuple[float, float] = (0.34, 0.48)
    mountains: float = 0.0
    path: float = 0.0
    aloft: float = 0.6
    count: tuple[int, int] = (2, 4)


LAYOUTS: Final = (
    Layout(
        "a beach",
        (("sea", "sand"), ("sea", "sand"), ("sand",)),
        ("umbrella", "ball", "person", "rock", "boat", "tree"),
        mountains=0.2,
    ),
    Layout(
        "the countryside",
        (("grass",),),
        ("tree", "house", "fence", "flower", "person", "ball", "rock"),
        mountains=0.3,
        path=0.5,
    ),
    Layout(
        "the mountains",
        (("snow",), ("grass",), ("grass", "snow")),
        ("pine", "tent", "rock", "person", "house"),
        mountains=0.9,
    ),
    Layout(
        "a street",
        (("road",), ("grass", "road"), ("road", "grass")),
        ("house", "car", "person", "tree", "fence"),
        (0.3, 0.44),
    ),
    Layout(
        "a harbour", (("sea",), ("sea", "road"), ("sea", "grass")), ("boat", "rock", "person", "car"), mountains=0.4
    ),
    Layout("a camp", (("grass",), ("sand",), ("snow",)), ("tent", "pine", "person", "rock", "ball"), mountains=0.3),
    Layout(
        "a garden",
        (("grass",), ("grass", "sand")),
        ("flower", "fence", "tree", "ball", "umbrella", "person"),
        (0.28, 0.4),
    ),
    Layout("the sky", ((),), (), (1.0, 1.0), aloft=1.0, count=(0, 0)),
    # Close views without a sky: they separate things that always come together elsewhere.
    Layout(
        "the ground",
        (("grass",), ("sand",), ("snow",), ("road",)),
        ("ball", "flower", "rock", "person", "tent", "umbrella", "car"),
        (0.0, 0.0),
        aloft=0.0,
        count=(1, 2),
    ),
    Layout(
        "the shore",
        (("sea", "sand"), ("sea",), ("sea", "grass"), ("sea", "snow")),
        ("boat", "rock", "ball", "umbrella"),
        (0.0, 0.0),
        aloft=0.0,
        count=(1, 2),
    ),
    Layout(
        "the roadside",
        (("grass", "road"), ("road", "grass"), ("snow", "road"), ("sand", "road")),
        ("car", "fence", "pine", "tree", "rock"),
        (0.0, 0.0),
        aloft=0.0,
        count=(1, 2),
    ),
    Layout(
        "a wall",
        (("house", "road"), ("house", "grass"), ("house",)),
        ("window", "window", "person", "flower", "car", "fence"),
        (0.0, 0.0),
        aloft=0.0,
        count=(1, 2),
    ),
    Layout("the rooftops", (("roof",),), (), (0.45, 0.65), aloft=0.8, count=(0, 0)),
)
LAYOUT_WEIGHTS: Final = (3, 4, 3, 3, 2, 2, 2, 1.2, 2, 1.6, 1.6, 2.4, 0.9)


@dataclass(frozen=True)
class Light:
    """Time of day and weather: colours of sky and sea, a tint of everything, saturation, and a word for captions."""

    word: str
    zenith: Colour
    horizon: Colour
    sea: Colour
    tint: tuple[float, float, float]
    saturation: float


LIGHTS: Final = (
    Light("on a sunny day", (74, 146, 220), (186, 220, 246), (28, 104, 150), (1.0, 1.0, 0.98), 1.05),
    Light("on a clear day", (104, 172, 232), (212, 232, 246), (36, 124, 150), (1.0, 1.0, 1.0), 1.0),
    Light("at dusk", (98, 92, 160), (250, 186, 136), (60, 76, 124), (1.0, 0.88, 0.82), 0.95),
    Light("in the morning", (138, 176, 220), (252, 222, 196), (66, 120, 150), (1.0, 0.96, 0.92), 0.95),
    Light("on a grey day", (150, 164, 180), (206, 214, 220), (68, 96, 112), (0.94, 0.96, 0.98), 0.78),
)
LIGHT_WEIGHTS: Final = (0.3, 0.25, 0.15, 0.15, 0.15)
