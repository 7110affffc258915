"""Drawn clips: scenes whose things move under a camera that pans, with exact labels for every frame.

A clip is drawn from a scene's composition. Its shapes are remembered, and drawn again for every frame, each thing at
its place of that moment. `python -m training scenes --clip` writes clips as H.264 files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import OptionError
from training.config import check_seed
from training.drawing.canvas import Canvas, Colour, Point, View
from training.drawing.composition import compose
from training.drawing.concepts import CONCEPT_LIST, CONCEPTS
from training.drawing.scenes import MAX_SIZE, MIN_SHARE, MIN_SIZE
from training.drawing.textures import FIELD_MARGIN, fields

ROOM: Final = (1.25, 1.1)
"""Height and width of the drawn square over those of the frame, at least: the camera pans within it."""
PAN_PERIOD_S: Final = (9.0, 16.0)


class Motion(NamedTuple):
    """A movement to and fro: the reach to each side and upwards (share of the square), the period, bounces or not."""

    reach_x: float
    reach_y: float
    period_s: tuple[float, float]
    bounces: bool = False


MOTIONS: Final = {
    "cloud": Motion(0.06, 0.0, (12.0, 20.0)),
    "balloon": Motion(0.06, 0.03, (5.0, 9.0)),
    "boat": Motion(0.16, 0.006, (8.0, 14.0)),
    "car": Motion(0.25, 0.0, (4.0, 8.0)),
    "person": Motion(0.12, 0.008, (5.0, 9.0)),
    "ball": Motion(0.14, 0.06, (2.0, 4.0), bounces=True),
}
"""The concepts that move, wherever a clip has them. Each is one region."""
ALOFT: Final = ("cloud", "balloon")
"""Those of them that are in the sky."""


@dataclass(frozen=True)
class ClipSettings:
    """Settings of a clip.

    size: (height, width) of a frame, 56 to 4096 pixels each and even, since H.264 halves its colours. fps: frames a
    second. still: share of the frames, from 0 to 1, at the end of each scene in which nothing moves; a camera's grain
    goes on. scenes: number of scenes, joined by cuts. Raises OptionError for a value outside its range.
    """

    size: tuple[int, int] = (480, 640)
    frames: int = 150
    fps: int = 25
    still: float = 0.0
    scenes: int = 1

    def __post_init__(self) -> None:
        if any(side % 2 or not MIN_SIZE <= side <= MAX_SIZE for side in self.size):
            raise OptionError(
                f"expected frames of {MIN_SIZE} to {MAX_SIZE} pixels a side, even numbers; got "
                f"{self.size[1]}x{self.size[0]}"
            )
        if not 1 <= self.scenes <= self.frames:
            raise OptionError(f"expected at least 1 frame for each scene, got {self.frames} for {self.scenes}")
        if not 1 <= self.fps <= 240:
            raise OptionError(f"expected 1 to 240 frames a second, got {self.fps}")
        if not 0 <= self.still <= 1:
            raise OptionError(f"expected a still share from 0 to 1, got {self.still:g}")


@dataclass(frozen=True)
class Frame:
    """One frame: image (H,W,3) uint8 RGB; labels (H,W) uint8, indices into `CONCEPTS`; regions (H,W) uint8."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    regions: NDArray[np.uint8]


def draw_clip(seed: int, index: int, settings: ClipSettings) -> Iterator[Frame]:
    """Draw the frames of clip number `index` of the series `seed`; always the same.

    At least one thing on the ground moves in every scene. Raises OptionError for a seed out of range.
    """
    check_seed(seed)
    for part in range(settings.scenes):
        first, last = (settings.frames * number // settings.scenes for number in (part, part + 1))
        rng = np.random.default_rng((seed, index, part))
        moving = max(1, round((last - first) * (1 - settings.still)))
        scene = _moving_scene(rng, settings.size)
        for frame in range(last - first):
            yield scene.frame(min(frame, moving - 1) / settings.fps, rng)


def _moving_scene(rng: np.random.Generator, size: tuple[int, int]) -> _MovingScene:
    """A scene in which something on the ground moves, and every concept can be seen in the first frame."""
    while True:
        scene = _MovingScene(rng, size)
        labels = scene.frame(0.0, rng).labels
        shares = np.bincount(labels.ravel(), minlength=len(CONCEPTS)) / labels.size
        on_ground = any(name in MOTIONS and shares[CONCEPTS.index(name)] for name in CONCEPTS if name not in ALOFT)
        if on_ground and shares[shares > 0].min() >= MIN_SHARE:
            return scene


class _MovingScene:
    """A composition's shapes with the movement of each region and of the camera."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self._size = size
        self._side = math.ceil(max(side * room for side, room in zip(size, ROOM, strict=True)))
        self._shapes = _Shapes()
        self._composition = compose(self._shapes, rng)
        self._tint = self._composition.tint(rng)
        reach = (FIELD_MARGIN - 1) * self._side
        regions = len(self._shapes.concepts)
        self._offsets = rng.integers(0, reach + 1, size=(regions, 2))
        self._phases = rng.uniform(0.0, 2 * math.pi, size=regions)
        self._periods = rng.uniform(0.0, 1.0, size=regions)
        self._pan = rng.uniform(0.0, 2 * math.pi, size=2), rng.uniform(*PAN_PERIOD_S, size=2)

    def frame(self, time_s: float, rng: np.random.Generator) -> Frame:
        """The frame at a moment; `rng` makes the camera's grain."""
        shifts = [self._shift(region, time_s) for region in range(len(self._shapes.concepts))]
        canvas = _FrameCanvas(self._side, self._view(time_s), self._offsets, shifts)
        self._shapes.draw(canvas, shifts)
        return Frame(*canvas.finish(rng, self._tint, self._composition.light.saturation))

    def _view(self, time_s: float) -> View:
        """The part of the square that the camera sees."""
        height, width = self._size
        swing = [math.sin(phase + 2 * math.pi * time_s / period) for phase, period in zip(*self._pan, strict=True)]
        across, down = 0.5 + 0.5 * swing[0], 0.6 + 0.2 * swing[1]
        return View(round((self._side - width) * across), round((self._side - height) * down), width, height)

    def _shift(self, region: int, time_s: float) -> Point:
        """The way of a region from its place in the composition, in unit coordinates."""
        motion = MOTIONS.get(CONCEPT_LIST[self._shapes.concepts[region]].name)
        if motion is None:
            return 0.0, 0.0
        low, high = motion.period_s
        angle = self._phases[region] + 2 * math.pi * time_s / (low + (high - low) * self._periods[region])
        up = abs(math.sin(2 * angle)) if motion.bounces else math.sin(2 * angle)
        return motion.reach_x * math.sin(angle), -motion.reach_y * up


class _Shapes(Canvas):
    """A canvas that remembers the shapes in place of drawing them."""

    def __init__(self) -> None:
        super().__init__(1)
        self._shapes: list[tuple[int, Callable[[Canvas, Point], None]]] = []

    def draw(self, canvas: Canvas, shifts: Sequence[Point]) -> None:
        """Draw all shapes on another canvas, those of each region moved by its shift (unit coordinates)."""
        canvas.concepts = list(self.concepts)
        for region, shape in self._shapes:
            shape(canvas, shifts[region])

    def polygon(self, region: int, points: Sequence[Point], colour: Colour) -> None:
        """Remember a polygon."""
        kept = list(points)
        self._shapes.append((region, lambda canvas, by: canvas.polygon(region, _moved(kept, by), colour)))

    def ellipse(self, region: int, centre: Point, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Remember an ellipse."""
        self._shapes.append(
            (region, lambda canvas, by: canvas.ellipse(region, _moved([centre], by)[0], radius_x, radius_y, colour))
        )

    def line(self, region: int, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Remember a line."""
        kept = list(points)
        self._shapes.append((region, lambda canvas, by: canvas.line(region, _moved(kept, by), width, colour)))

    def gradient(self, region: int, top: float, bottom: float, first: Colour, second: Colour) -> None:
        """Remember a gradient. It spans the picture and never moves."""
        self._shapes.append((region, lambda canvas, _: canvas.gradient(region, top, bottom, first, second)))


def _moved(points: Sequence[Point], by: Point) -> list[Point]:
    return [(x + by[0], y + by[1]) for x, y in points]


class _FrameCanvas(Canvas):
    """The canvas of one frame. The texture of each region moves with it."""

    def __init__(self, size: int, view: View, offsets: NDArray[np.int64], shifts: Sequence[Point]) -> None:
        super().__init__(size, view)
        self._view = view
        self._offsets = offsets
        self._shifts = shifts

    def _texture(
        self, labels: NDArray[np.uint8], regions: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        bank = fields(self.size)
        texture = np.zeros(labels.shape, dtype=np.float32)
        for region in np.unique(regions):
            concept = CONCEPT_LIST[self.concepts[region]]
            right, down = (round(way * self.size) for way in self._shifts[region])
            row, column = self._offsets[region]
            rows = np.arange(row + self._view.top - down, row + self._view.top - down + self._view.height)
            columns = np.arange(column + self._view.left - right, column + self._view.left - right + self._view.width)
            inside = regions == region
            field = bank[concept.texture].take(rows, axis=0, mode="wrap").take(columns, axis=1, mode="wrap")
            texture[inside] = concept.contrast * field[inside]
        return texture
