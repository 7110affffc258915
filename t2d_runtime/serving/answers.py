"""Forms of an answer: pictures, arrays and JSON, chosen by `format` or by the Accept header."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from t2d_runtime.errors import OptionError
from t2d_runtime.results.formats import FORMATS as FILE_FORMATS
from t2d_runtime.results.formats import FileFormat, ImageResult, OutputOptions
from t2d_runtime.results.formats.json import json_content
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.serving.problems import HttpError

FORMATS = {
    "json": "application/json",
    "rle": "application/json",
    "polygons": "application/json",
    "png": "image/png",
    "grey": "image/png",
    "overlay": "image/png",
    "npz": "application/x-npz",
}
"""Format -> its media type. The first of a type is what an Accept header of that type gets."""

DEFAULT = "json"


@dataclass(frozen=True)
class Form:
    """The form of one answer."""

    format: str
    legend: bool = True
    confidence: bool = False
    """True where the answer has mean scores, and in npz the winning score of each pixel."""

    @property
    def media_type(self) -> str:
        """Content type of the answer."""
        return FORMATS[self.format]


def form_of(name: object, accept: str, *, legend: bool | None = None, confidence: bool | None = None) -> Form:
    """The form that `format` names, else the one that the Accept header prefers; JSON without either.

    Raises OptionError for an unknown format, a legend without an overlay, and a confidence in a picture; HttpError
    (406) where nothing is acceptable.
    """
    if name is None:
        name = _accepted(accept)
    if not isinstance(name, str) or name not in FORMATS:
        raise OptionError(f"format is {name!r:.60}, expected one of {list(FORMATS)}")
    if legend is not None and name != "overlay":
        raise OptionError("legend has no effect without format=overlay; add that, or leave it out")
    if confidence is not None and name not in (able := [name for name in FORMATS if _has_scores(name)]):
        raise OptionError(f"confidence has no effect with format={name}, only with {', '.join(able)}; leave it out")
    return Form(name, legend is None or legend, bool(confidence))


def _polygons(result: Segmentation) -> dict[str, Any]:
    """Parts as {"exterior": [[x, y], ...], "holes": [...]}, points on corners of pixels."""
    return {
        name: [{"exterior": part.exterior.tolist(), "holes": [hole.tolist() for hole in part.holes]} for part in parts]
        for name, parts in result.polygons().items()
    }


SHAPES: dict[str, Callable[[Segmentation], Mapping[str, Any]]] = {"rle": Segmentation.rle, "polygons": _polygons}
"""Formats that add the shape of each label, under their own name, to the JSON of a result."""


def _has_scores(name: str) -> bool:
    """True for a format that holds mean scores, or the confidence, where a result has them."""
    return name in SHAPES or FILE_FORMATS[name].mean_scores


def _with_shapes(result: Segmentation, key: str) -> bytes:
    content, shapes = json_content(result), SHAPES[key](result)
    labels = [{**label, key: shapes[label["name"]]} for label in content["labels"]]
    return json.dumps({**content, "labels": labels}).encode()


def content_of(result: Segmentation, form: Form) -> bytes:
    """The answer's bytes."""
    if form.format in SHAPES:
        return _with_shapes(result, form.format)
    stream = io.BytesIO()
    writer = FILE_FORMATS[form.format]
    if not isinstance(writer, FileFormat):
        raise TypeError(f"{form.format} is no format of one picture")
    writer.write(stream, ImageResult(result, "image"), OutputOptions(legend=form.legend))
    return stream.getvalue()


def _accepted(accept: str) -> str:
    """The format for an Accept header (RFC 9110, 12.5.1)."""
    wanted = [_range(part) for part in accept.split(",") if part.strip()]
    for media, weight in sorted(wanted, key=lambda item: -item[1]):
        if weight <= 0:
            break
        if media == "*/*":
            return DEFAULT
        for name, kind in FORMATS.items():
            if media == kind or media == f"{kind.partition('/')[0]}/*":
                return name
    if wanted:
        raise HttpError(406, f"no answer is {accept[:100]!r}; expected one of {sorted(set(FORMATS.values()))}")
    return DEFAULT


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return media, float(weight)
    except ValueError:
        return media, 0.0
