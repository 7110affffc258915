"""Polygons of the labels as GeoJSON: in the world's coordinates where a GeoTIFF has them, else in pixels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY

if TYPE_CHECKING:
    from t2d_runtime.image.georeference import Georeference
    from t2d_runtime.results.shapes.outlines import Outline
    from t2d_runtime.results.shapes.polygons import Ring

WGS84 = 4326
"""EPSG code of longitude and latitude, which GeoJSON means where it names no reference system."""


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write a FeatureCollection (RFC 7946) with a Polygon for each connected part, without background.

    World coordinates follow the TIFF's transform. Their reference system, where the file gives one, is in "crs", as in
    GeoJSON of 2008, which GDAL and QGIS read. Pixel coordinates count from the top left corner, with y downwards.
    """
    from t2d_runtime.image.georeference import georeference_of
    from t2d_runtime.image.windows import size_of
    from t2d_runtime.results.shapes.outlines import outlines_of

    result = item.segmentation
    place = None if item.source is None else georeference_of(item.source, size_of(result.label_map))
    head: dict[str, Any] = {
        GENERATOR_KEY: GENERATOR,
        "type": "FeatureCollection",
        "image": item.image,
        "coordinates": "pixels" if place is None else "world",
    }
    if place is not None and place.epsg not in (None, WGS84):
        head["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{place.epsg}"}}
    file.write((json.dumps(head)[:-1] + ', "features": [').encode())
    separator = "\n"
    for outline in outlines_of(result):
        if not (result.has_background and outline.label == 0):
            file.write((separator + json.dumps(_feature(outline, place))).encode())
            separator = ",\n"
    file.write(b"\n]}\n")


def _feature(outline: Outline, place: Georeference | None) -> dict[str, Any]:
    properties: dict[str, Any] = {"label": outline.label, "name": outline.name, "pixels": outline.area}
    if outline.mean_score is not None:
        properties["mean_score"] = outline.mean_score
    rings = [_ring(ring, place) for ring in (outline.polygon.exterior, *outline.polygon.holes)]
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": rings}}


def _ring(ring: Ring, place: Georeference | None) -> list[list[float]]:
    """A closed ring. The outer one has its inside on the left, with y upwards, as RFC 7946 asks for."""
    if place is None:
        points: list[list[float]] = ring.tolist()
    else:
        points = place.world(ring[::-1] if place.mirrors else ring).tolist()
    return [*points, points[0]]


FORMAT = FileFormat(
    "geojson",
    ".geojson",
    "polygons in the coordinates of a GeoTIFF, else in pixels",
    write,
    mean_scores=True,
)
