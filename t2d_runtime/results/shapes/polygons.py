"""Polygons along the sides of pixels, for all labels at once.

A polygon's points are corners of pixels: (0, 0) is the picture's top left corner, (W, H) its bottom right one. So a
polygon's area is its number of pixels, neighbours share their borders, and filling it gives the mask back exactly.

The picture's 2 x 2 blocks of pixels show the corners of all regions. Along each line between pixels, sides of one
direction do not overlap. So the i-th corner where one begins belongs to the i-th corner where one ends, and no search
is needed. Sides have their region on the right hand, with y downwards: outer rings run clockwise on the screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.results.label_map import LabelMap, bands_of
from t2d_runtime.results.shapes.parts import Parts, parts_of

Ring = NDArray[np.int32]
"""(n,2) points x, y in pixels, without the first one repeated."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """A connected part of a label. `shapely.geometry.shape(polygon)` takes it as it is, and so does rasterio."""

    exterior: Ring
    """Clockwise on the screen, where y points down."""
    holes: tuple[Ring, ...]
    """Counterclockwise on the screen. A hole may touch another ring in single points."""

    @property
    def outer_area(self) -> int:
        """Pixels inside the exterior, those in the holes included."""
        x, y = self.exterior.astype(np.int64).T
        return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """The polygon as shapely, rasterio, geopandas and others read it. Rings are closed."""
        rings = ([*map(tuple, ring.tolist()), tuple(ring[0].tolist())] for ring in (self.exterior, *self.holes))
        return {"type": "Polygon", "coordinates": tuple(map(tuple, rings))}


class _Kind(NamedTuple):
    """One of eight kinds of corners, by the pixels a b / c d around it. Directions are left, right, up, down."""

    arrives: str
    leaves: str
    pixel: int
    """0 to 3 for a to d: a pixel of the corner's region."""
    differ: tuple[str, ...]
    """Pairs of pixels that differ."""
    equal: tuple[str, ...]
    """Pairs of pixels that are equal."""


_A, _B, _C, _D = range(4)
_KINDS = (
    _Kind("down", "left", _A, ("ab", "ac"), ()),
    _Kind("left", "up", _B, ("ab", "bd"), ()),
    _Kind("right", "down", _C, ("ac", "cd"), ()),
    _Kind("up", "right", _D, ("bd", "cd"), ()),
    _Kind("right", "up", _D, ("ab", "ac"), ("bd", "cd")),
    _Kind("down", "right", _A, ("ab", "bd"), ("ac", "cd")),
    _Kind("up", "left", _A, ("ac", "cd"), ("ab", "bd")),
    _Kind("left", "down", _A, ("bd", "cd"), ("ab", "ac")),
)
"""First the four corners with one pixel of the region, in the order of the pixels, then those with three."""


class _Corners(NamedTuple):
    """Corners of all regions, kind after kind."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    kinds: NDArray[np.int8]
    pixels: NDArray[np.int64]
    """A pixel of each corner's region, as an index into the flat map."""


def polygons_of(label_map: NDArray[Any], parts: Parts) -> list[Polygon]:
    """The polygons of the connected parts of a map (H,W), in the order of its `parts`.

    Labels below 0 are no regions; their parts are left out.
    """
    corners = _corners(label_map)
    following = _following(corners, parts)
    order, firsts = _rings(following)
    points = np.stack([corners.x[order], corners.y[order]], axis=1).astype(np.int32)
    owners = parts.at(corners.pixels[order[firsts]])
    outer = _areas(points, firsts) > 0
    rings = np.split(points, firsts[1:])
    exteriors = dict(zip(owners[outer].tolist(), np.flatnonzero(outer).tolist(), strict=True))
    holes: dict[int, list[Ring]] = {}
    for index in np.flatnonzero(~outer).tolist():
        holes.setdefault(int(owners[index]), []).append(rings[index])
    regions = np.flatnonzero(parts.labels >= 0).tolist()
    return [Polygon(rings[exteriors[part]], tuple(holes.get(part, ()))) for part in regions]


def polygons_of_mask(mask: NDArray[np.bool_]) -> list[Polygon]:
    """The polygons of a mask (H,W), the largest first. Only its box is looked at closely."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return []
    top, left = rows[0], columns[0]
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.int8) - 1
    parts = parts_of(inside)
    polygons = polygons_of(inside, parts)
    areas = parts.areas[parts.labels >= 0]
    return [_moved(polygons[index], left, top) for index in np.argsort(-areas, kind="stable").tolist()]


def polygons_of_labels(label_map: LabelMap, num_labels: int) -> list[list[Polygon]]:
    """The polygons of each label of a map (H,W), the largest first."""
    parts = parts_of(label_map)
    polygons = polygons_of(label_map, parts)
    of_labels: list[list[Polygon]] = [[] for _ in range(num_labels)]
    for part in np.argsort(-parts.areas, kind="stable").tolist():
        of_labels[parts.labels[part]].append(polygons[part])
    return of_labels


def _moved(polygon: Polygon, right: int, down: int) -> Polygon:
    by = np.array([right, down], np.int32)
    return Polygon(polygon.exterior + by, tuple(hole + by for hole in polygon.holes))


def _corners(label_map: NDArray[Any]) -> _Corners:
    """The corners of all regions, band by band; outside the map there is no region."""
    height, width = label_map.shape
    found: list[list[tuple[NDArray[np.int64], ...]]] = [[] for _ in _KINDS]
    for band in bands_of(height + 1, width + 1):
        around = np.full((band.stop - band.start + 1, width + 2), -1, np.int32)  # a row above, a column on each side
        first, last = max(band.start - 1, 0), min(band.stop, height)
        around[first - band.start + 1 : last - band.start + 1, 1:-1] = label_map[first:last]
        beside, below = around[:, 1:] == around[:, :-1], around[1:] == around[:-1]
        flat = beside[:-1] & beside[1:] & below[:, :-1] & below[:, 1:]
        y, x = np.nonzero(~flat)
        alike = {"ab": beside[y, x], "cd": beside[y + 1, x], "ac": below[y, x], "bd": below[y, x + 1]}
        pixels = np.stack([around[y, x], around[y, x + 1], around[y + 1, x], around[y + 1, x + 1]])
        y = y + band.start
        for kind, parts in zip(_KINDS, found, strict=True):
            here = pixels[kind.pixel] >= 0
            for pair in kind.differ:
                here &= ~alike[pair]
            for pair in kind.equal:
                here &= alike[pair]
            parts.append((x[here], y[here]))
    xs, ys = ([np.concatenate([part[axis] for part in parts]) for parts in found] for axis in (0, 1))
    kinds = np.repeat(np.arange(len(_KINDS), dtype=np.int8), list(map(len, xs)))
    x, y = np.concatenate(xs), np.concatenate(ys)
    below_line, right_of_line = np.array([divmod(kind.pixel, 2) for kind in _KINDS])[kinds].T
    return _Corners(x, y, kinds, (y - 1 + below_line) * width + x - 1 + right_of_line)


def _following(corners: _Corners, parts: Parts) -> NDArray[np.intp]:
    """The corner (n,) that follows each corner along the border of its region."""
    following = np.empty(len(corners.x), np.intp)
    numbers = np.split(np.arange(len(corners.x)), np.searchsorted(corners.kinds, range(1, len(_KINDS))))
    for direction in ("left", "right", "up", "down"):
        line, place = (corners.x, corners.y) if direction in ("up", "down") else (corners.y, corners.x)
        begins, ends = (
            np.concatenate([own for own, kind in zip(numbers, _KINDS, strict=True) if side(kind) == direction])
            for side in (attrgetter("leaves"), attrgetter("arrives"))
        )
        following[_sorted(begins, line, place)] = _sorted(ends, line, place)
    _join(following, corners, parts)
    return following


def _sorted(which: NDArray[np.intp], line: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.intp]:
    """Some corners in order of their lines, and of their places on them."""
    return which[np.argsort(line[which] << 32 | place[which], kind="stable")]


def _join(following: NDArray[np.intp], corners: _Corners, parts: Parts) -> None:
    """Let rings of one part cross where two of its pixels meet at a corner only.

    Else a ring would pass through that point twice: round the part, and round what it encloses there. Pixels of
    different parts keep rings of their own, which touch in the point.
    """
    places = corners.y << 32 | corners.x
    for one, other in ((_A, _D), (_B, _C)):
        firsts, seconds = (np.flatnonzero(corners.kinds == kind) for kind in (one, other))
        _, left, right = np.intersect1d(places[firsts], places[seconds], assume_unique=True, return_indices=True)
        firsts, seconds = firsts[left], seconds[right]
        same = parts.at(corners.pixels[firsts]) == parts.at(corners.pixels[seconds])
        firsts, seconds = firsts[same], seconds[same]
        following[firsts], following[seconds] = following[seconds], following[firsts]


def _rings(following: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All corners (n,) ring after ring, and the places (r,) in this order where rings begin."""
    order, firsts = np.empty(len(following), np.intp), []
    follow, put, done = following.data, order.data, bytearray(len(following))
    place = start = 0
    while (start := done.find(0, start)) >= 0:
        firsts.append(place)
        corner = start
        while not done[corner]:
            done[corner] = 1
            put[place] = corner
            place += 1
            corner = follow[corner]
    return order, np.array(firsts, np.intp)


def _areas(points: NDArray[np.int32], firsts: NDArray[np.intp]) -> NDArray[np.int64]:
    """Twice the signed area (r,) of each ring; above 0 where it runs clockwise on the screen."""
    x, y = points.astype(np.int64).T
    after = np.arange(1, len(points) + 1)
    after[np.append(firsts[1:], len(points)) - 1] = firsts
    areas: NDArray[np.int64] = np.add.reduceat(x * y[after] - x[after] * y, firsts)
    return areas
