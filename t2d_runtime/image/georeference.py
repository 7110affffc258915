"""GeoTIFF: the place of a picture's pixels in the world, from the tags of its file (OGC GeoTIFF 1.1)."""

from __future__ import annotations

import logging
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.formats import kind_of
from t2d_runtime.image.orientation import ORIENTATION_TAG
from t2d_runtime.image.tiff import Content, numbers_of_tags

logger = logging.getLogger(__name__)

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735
RASTER_TYPE_KEY, GEOGRAPHIC_KEY, PROJECTED_KEY = 1025, 2048, 3072
PIXEL_IS_POINT = 2
"""Value of RASTER_TYPE_KEY where whole coordinates are centres of pixels, not their corners."""

EPSG_CODES = range(1024, 32767)
"""Values of the keys that are codes of the EPSG registry; 32767 is a system of the user's own."""

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f."""

_IDENTITY: Affine = (1, 0, 0, 0, 1, 0)


@dataclass(frozen=True)
class Georeference:
    """The transform from corners of pixels, (0, 0) at the top left, to coordinates of a reference system."""

    transform: Affine
    epsg: int | None
    """Code of the reference system in the EPSG registry, where the file gives one."""

    @property
    def mirrors(self) -> bool:
        """True where a clockwise ring of pixels runs counterclockwise in the world, as in most maps."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d < 0

    def world(self, points: NDArray[np.int32]) -> NDArray[np.float64]:
        """World coordinates (n,2) of corners of pixels (n,2), x, y."""
        a, b, c, d, e, f = self.transform
        x, y = points.astype(np.float64).T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def georeference_of(source: Path | bytes, size: tuple[int, int]) -> Georeference | None:
    """The georeference of a TIFF, a file or its bytes, whose picture has this (height, width) upright.

    None for other formats, and for a TIFF without a transform. Tags that give none, such as tie points alone, are told
    in the log. Raises OSError for a file that cannot be read.
    """
    if isinstance(source, bytes):
        return _georeference(source, "the image data", size)
    with source.open("rb") as file:
        if kind_of(file.read(256)) != "TIFF":
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _georeference(content, str(source), size)


def _georeference(content: Content, name: str, size: tuple[int, int]) -> Georeference | None:
    if kind_of(content[:256]) != "TIFF":
        return None
    tags = numbers_of_tags(content, (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS, ORIENTATION_TAG))
    transform = _transform(tags)
    if transform is None:
        if not tags.keys().isdisjoint((PIXEL_SCALE, TIE_POINTS, TRANSFORMATION)):
            logger.warning("%s: its tags give no transform from pixels to the world; its coordinates are pixels", name)
        return None
    keys = _geo_keys(tags.get(GEO_KEYS, ()))
    stored = _upright_to_stored(int(tags.get(ORIENTATION_TAG, (1,))[0]), size)
    if keys.get(RASTER_TYPE_KEY) == PIXEL_IS_POINT:
        stored = _after(stored, (1, 0, -0.5, 0, 1, -0.5))
    code = keys.get(PROJECTED_KEY, keys.get(GEOGRAPHIC_KEY))
    return Georeference(_after(stored, transform), code if code in EPSG_CODES else None)


def _transform(tags: dict[int, tuple[float, ...]]) -> Affine | None:
    """The transform of stored pixels. Rows go down, so the scale of y counts negative."""
    scale, tie = tags.get(PIXEL_SCALE, ()), tags.get(TIE_POINTS, ())
    matrix = tags.get(TRANSFORMATION, ())
    transform: Affine
    if len(scale) >= 2 and len(tie) >= 6:
        across, down = scale[0], -abs(scale[1])
        transform = (across, 0.0, tie[3] - across * tie[0], 0.0, down, tie[4] - down * tie[1])
    elif len(matrix) >= 8:
        transform = (matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7])
    else:
        return None
    a, b, _, d, e, _ = transform
    return transform if np.isfinite(transform).all() and a * e - b * d else None


def _geo_keys(directory: tuple[float, ...]) -> dict[int, int]:
    """Key -> value of the keys with a value of their own; entries have four numbers, after a header of four."""
    numbers = list(map(int, directory))
    entries = [numbers[start : start + 4] for start in range(4, len(numbers) - 3, 4)]
    return {key: value for key, place, _, value in entries if place == 0}


def _upright_to_stored(orientation: int, size: tuple[int, int]) -> Affine:
    """Transform of pixel corners of the upright picture to those of the stored one, by the EXIF orientation."""
    height, width = size
    return {
        2: (-1, 0, width, 0, 1, 0),
        3: (-1, 0, width, 0, -1, height),
        4: (1, 0, 0, 0, -1, height),
        5: (0, 1, 0, 1, 0, 0),
        6: (0, 1, 0, -1, 0, width),
        7: (0, -1, height, -1, 0, width),
        8: (0, -1, height, 1, 0, 0),
    }.get(orientation, _IDENTITY)


def _after(first: Affine, second: Affine) -> Affine:
    """The transform `first`, then `second`."""
    a, b, c, d, e, f = first
    p, q, r, s, t, u = second
    return (p * a + q * d, p * b + q * e, p * c + q * f + r, s * a + t * d, s * b + t * e, s * c + t * f + u)
