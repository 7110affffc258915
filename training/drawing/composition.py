"""The composition of one scene: sky, mountains, bands of ground, and things side by side on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.drawing.built import roof_colour, wall_colour
from training.drawing.canvas import Canvas, Colour, blend, shade
from training.drawing.layouts import (
    AT_HOME,
    LAYOUT_WEIGHTS,
    LAYOUTS,
    LIGHT_WEIGHTS,
    LIGHTS,
    ONLY_ON,
    SIZES,
    SKY_THINGS,
    Layout,
    Light,
)
from training.drawing.things import PAINTERS


@dataclass(frozen=True)
class Placed:
    """A drawn thing: its concept, an adjective, its place (x) and its ground."""

    name: str
    adjective: str
    x: float
    ground: str


@dataclass(frozen=True)
class Composition:
    """The content of a drawn scene: its layout, light and things."""

    layout: Layout
    light: Light
    things: tuple[Placed, ...]

    def tint(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """The light's colour, a little brighter or darker: a factor for each channel."""
        red, green, blue = np.asarray(self.light.tint) * rng.uniform(0.95, 1.04)
        return float(red), float(green), float(blue)


def ground_colours(name: str, light: Light, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Far and near colour of a band of ground."""
    if name == "sea":
        return blend(light.sea, light.horizon, 0.22), shade(light.sea, rng.uniform(0.95, 1.15))
    if name == "snow":
        return (222, 230, 240), shade((240, 244, 250), rng.uniform(0.96, 1.02))
    if name == "sand":
        tone = blend((228, 200, 148), (206, 168, 112), rng.random())
        return shade(tone, 1.04), tone
    if name == "house":
        _, wall = wall_colour(rng)
        return shade(wall, 1.03), wall
    if name == "roof":
        tiles = roof_colour(rng)
        return tiles, shade(tiles, 0.92)
    if name == "road":
        tone = blend((104, 104, 110), (134, 128, 122), rng.random())
        return shade(tone, 1.08), shade(tone, 0.94)
    tone = blend((98, 160, 62), (134, 166, 70), rng.random())
    return blend(tone, light.horizon, 0.18), shade(tone, 0.88)


def _mountains(canvas: Canvas, rng: np.random.Generator, light: Light, horizon: float) -> None:
    """Draw one range of mountains behind the ground, with snow on its highest peaks half of the time."""
    region = canvas.new_region("mountain")
    stone = blend(
        ((104, 108, 118), (122, 100, 84), (84, 112, 84))[rng.integers(3)],
        light.horizon,
        rng.uniform(0.05, 0.3),
    )
    peaks = int(rng.integers(2, 4))
    snow = canvas.new_region("snow") if rng.random() < 0.45 else None
    for peak in range(peaks):
        x = (peak + rng.uniform(0.25, 0.75)) / peaks
        height = rng.uniform(0.24, 0.34)
        half = height * rng.uniform(1.1, 1.5)
        top = (x, max(0.04, horizon - height))
        left, right = (x - half, horizon + 0.01), (x + half, horizon + 0.01)
        canvas.polygon(region, [left, top, right], stone)
        canvas.polygon(
            region,
            [top, right, (x + 0.3 * half, horizon), (x - 0.06 * half, horizon - 0.5 * height)],
            shade(stone, 0.86),
        )
        if snow is not None and height > 0.26:
            cut = 0.48
            edge = [(x + half * cut * (step / 3 - 1), top[1] + height * (cut - 0.09 * (step % 2))) for step in range(7)]
            canvas.polygon(snow, [top, *reversed(edge)], blend((246, 248, 252), light.horizon, 0.15))


def _bands(
    canvas: Canvas, rng: np.random.Generator, light: Light, names: tuple[str, ...], horizon: float
) -> list[float]:
    """Draw the ground; returns the upper edge of every band, and 1.0."""
    edges = [horizon]
    for left in range(len(names) - 1, 0, -1):
        edges.append(edges[-1] + (1 - edges[-1]) * rng.uniform(0.4, 0.56) / left)
    edges.append(1.0)
    for number, name in enumerate(names):
        top = edges[number]
        far, near = ground_colours(name, light, rng)
        region = canvas.new_region(name)
        canvas.gradient(region, top, 1.0, far, near)
        if name == "roof":
            peak, foot = top - rng.uniform(0.06, 0.12), rng.uniform(0.3, 0.7)
            canvas.polygon(region, [(0, top + 0.004), (foot, peak), (1, top + 0.004)], far)
        if name in ("grass", "sand", "snow") and top > 0:
            swing, phase = rng.uniform(0.008, 0.028), rng.uniform(0, 2 * math.pi)
            crest = [(x / 24, top - swing * (1 + math.sin(phase + x / 24 * 6.0))) for x in range(25)]
            canvas.polygon(region, [(0, top + 0.004), *crest, (1, top + 0.004)], far)
        if name == "road":
            middle = (top + edges[number + 1]) / 2
            for dash in range(5):
                canvas.rectangle(region, dash * 0.22, middle, dash * 0.22 + 0.11, middle + 0.016, (226, 222, 206))
    return edges


def _path(canvas: Canvas, rng: np.random.Generator, light: Light, horizon: float) -> None:
    """Draw a road from the lower edge to the horizon."""
    region = canvas.new_region("road")
    _, near = ground_colours("road", light, rng)
    foot, far = rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.65)
    canvas.polygon(region, [(foot - 0.3, 1), (far - 0.035, horizon), (far + 0.035, horizon), (foot + 0.3, 1)], near)
    for start, stop in ((0.05, 0.17), (0.3, 0.5), (0.65, 1.0)):
        sides = [(far + (foot - far) * t, horizon + (1 - horizon) * t, 0.012 * t) for t in (start, stop)]
        (x0, y0, w0), (x1, y1, w1) = sides
        canvas.polygon(region, [(x0 - w0, y0), (x0 + w0, y0), (x1 + w1, y1), (x1 - w1, y1)], (226, 222, 206))


def _aloft(canvas: Canvas, rng: np.random.Generator, layout: Layout, horizon: float) -> list[Placed]:
    """Draw sun, clouds and balloons in the sky."""
    placed = []
    names = [name for name, often in SKY_THINGS.items() if rng.random() < layout.aloft * often]
    slots = rng.permutation(len(names))
    for name, slot in zip(names, slots, strict=True):
        low, high = SIZES[name]
        size = rng.uniform(low, high)
        x = (slot + rng.uniform(0.35, 0.65)) / len(names)
        top = rng.uniform(0.01, max(0.02, 0.6 * horizon - 0.3 * size))
        placed.append(Placed(name, PAINTERS[name](canvas, rng, x, top + size, size), x, "sky"))
    return placed


def _choose(rng: np.random.Generator, layout: Layout, bands: tuple[str, ...]) -> list[str]:
    """The names of the things to draw: things that some band allows, and one house at most."""
    names = [name for name in layout.things if any(name in ONLY_ON.get(band, layout.things) for band in bands)]
    names = [name for name in names if name != "boat" or "sea" in bands]
    low, high = layout.count
    chosen: list[str] = []
    for _ in range(int(rng.integers(low, high + 1)) if high else 0):
        free = [name for name in names if name != "house" or "house" not in chosen]
        chosen.append(free[int(rng.integers(len(free)))])
    return chosen


def _stand(
    canvas: Canvas, rng: np.random.Generator, layout: Layout, bands: tuple[str, ...], edges: list[float]
) -> list[Placed]:
    """Put things on the ground, the far ones first, side by side with some overlap."""
    chosen = _choose(rng, layout, bands)
    slots = rng.permutation(len(chosen))
    waiting = []
    for name, slot in zip(chosen, slots, strict=True):
        low, high = SIZES[name]
        close = 1.25 if layout.horizon[1] == 0 else 1.0
        size = rng.uniform(low, high) * close
        band = _band(rng, bands, name)
        top, bottom = edges[band], edges[band + 1]
        reach = (0.12, 0.4) if name == "house" else (0.25, 0.9)
        base = min(0.98, top + (bottom - top) * rng.uniform(*reach))
        base = max(base, 0.04 + size)
        x = (slot + rng.uniform(0.3, 0.7)) / len(chosen)
        waiting.append((base - (0.2 if name == "house" else 0.0), name, x, base, size, bands[band]))
    placed = []
    for _, name, x, base, size, ground in sorted(waiting):
        placed.append(Placed(name, PAINTERS[name](canvas, rng, x, base, size), x, ground))
    return placed


def _band(rng: np.random.Generator, bands: tuple[str, ...], name: str) -> int:
    """The number of the band that the thing stands on."""
    fit = [number for number, band in enumerate(bands) if name in ONLY_ON.get(band, (name,))]
    if name in AT_HOME and AT_HOME[name] in bands:
        return bands.index(AT_HOME[name])
    return fit[int(rng.integers(len(fit)))]


def compose(canvas: Canvas, rng: np.random.Generator) -> Composition:
    """Draw one scene on the canvas."""
    weights = np.asarray(LAYOUT_WEIGHTS) / sum(LAYOUT_WEIGHTS)
    layout = LAYOUTS[rng.choice(len(LAYOUTS), p=weights)]
    light = LIGHTS[rng.choice(len(LIGHTS), p=LIGHT_WEIGHTS)]
    bands = layout.bands[int(rng.integers(len(layout.bands)))]
    horizon = rng.uniform(*layout.horizon)
    things: list[Placed] = []
    if horizon > 0:
        canvas.gradient(canvas.new_region("sky"), 0.0, min(1.0, horizon + 0.03), light.zenith, light.horizon)
        things += _aloft(canvas, rng, layout, horizon)
    if rng.random() < layout.mountains:
        _mountains(canvas, rng, light, horizon)
    edges = _bands(canvas, rng, light, bands, horizon)
    if rng.random() < layout.path:
        _path(canvas, rng, light, horizon)
    if bands:
        things += _stand(canvas, rng, layout, bands, edges)
    return Composition(layout, light, tuple(things))
