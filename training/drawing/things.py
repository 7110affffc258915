"""Functions that draw things, by the name of the concept.

Each draws one thing as a new region and returns an adjective for captions. The arguments are `canvas`, `rng`, and, in
unit coordinates, the middle `x`, the lower edge `base` and the height `size`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from training.drawing.built import fence, house, tent, window
from training.drawing.canvas import Canvas
from training.drawing.figures import ball, balloon, boat, car, person, umbrella
from training.drawing.nature import cloud, flower, pine, rock, sun, tree

Painter = Callable[[Canvas, np.random.Generator, float, float, float], str]

PAINTERS: Final[dict[str, Painter]] = {
    "tree": tree,
    "pine": pine,
    "house": house,
    "window": window,
    "fence": fence,
    "flower": flower,
    "person": person,
    "ball": ball,
    "boat": boat,
    "car": car,
    "rock": rock,
    "umbrella": umbrella,
    "balloon": balloon,
    "tent": tent,
    "cloud": cloud,
    "sun": sun,
}
