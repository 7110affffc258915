"""Schemas of the JSON that the service answers with, for its OpenAPI description. docs/results.md shows the labels."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from t2d_runtime.image.windows import WindowMode
from t2d_runtime.results.options import Cleaning
from t2d_runtime.serving.limits import Limits

Schema = dict[str, Any]


def described(schema: Schema, description: str) -> Schema:
    """A schema with its description."""
    return {**schema, "description": description}


def _object(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _list(items: Schema, length: int | None = None) -> Schema:
    exact = {} if length is None else {"minItems": length, "maxItems": length}
    return {"type": "array", "items": items, **exact}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_FLAG: Schema = {"type": "boolean"}
_POINTS = _list(_list(_COUNT, 2))

_RLE = _object({"size": described(_list(_COUNT, 2), "Height and width."), "counts": _TEXT})

_POLYGON = _object(
    {
        "exterior": described(_POINTS, "Corners of pixels as x, y."),
        "holes": described(_list(_POINTS), "Rings of the same kind."),
    }
)

_LABEL = _object(
    {
        "label": described(_COUNT, "Value of its pixels in png, grey and npz; 0 is background, where there is one."),
        "name": described(_TEXT, "The class, or background."),
        "pixels": described(_COUNT, "Number of its pixels."),
        "share": described(_SHARE, "Share of the picture's pixels, to six digits."),
        "box": described(
            _or_null(_list(_COUNT, 4)),
            "Left, top, right and bottom in pixels, right and bottom exclusive; null where it has no pixel.",
        ),
        "mean_score": described(
            _or_null(_SHARE), "With confidence: mean of its pixels' winning scores; null where it has no pixel."
        ),
        "rle": described(_RLE, "With format=rle: its mask in COCO's compressed run-length code."),
        "polygons": described(_list(_POLYGON), "With format=polygons: its connected parts, the largest first."),
    },
    optional=("mean_score", "rle", "polygons"),
)

_PAMR = _object({"iterations": _COUNT, "dilations": _list(_COUNT)})

_OPTIONS = {
    "background": described(_FLAG, "True where label 0 is for what fits no word."),
    "cleaning": described({"enum": [*get_args(Cleaning), None]}, "Method of background cleaning; null is none."),
    "threshold": described(_SHARE, "Score that a class must exceed to win over background."),
    "cleaning_weight": described(_NUMBER, "Lambda of the cleaning."),
    "refine": described(_or_null(_PAMR), "PAMR's settings; null where it is off."),
    "window": {"enum": list(get_args(WindowMode))},
}

_SETTINGS = _object({**_OPTIONS, "backend": _TEXT, "precision": _TEXT})

_ORIGIN = _object(
    {
        "model_digest": described(_TEXT, "Identity of the image encoder."),
        "vocabulary_digest": described(_TEXT, "Identity of the text encoder."),
        "engine": described(_or_null(_TEXT), "Engine, version and device that encoded the picture."),
        "prompts": described(
            {"anyOf": [_TEXT, _list(_TEXT), {"type": "null"}]}, "A set's name or templates; null for a vocabulary."
        ),
        "phrases": described(
            _or_null({"type": "object", "additionalProperties": _list(_TEXT)}),
            "Class to its phrases; null where each name is its own.",
        ),
        "negatives": _list(_TEXT),
        "thresholds": {"type": "object", "additionalProperties": _SHARE},
    }
)

RESULT = _object(
    {
        "generator": described(_TEXT, "The program that wrote this."),
        "height": _COUNT,
        "width": _COUNT,
        "settings": described(_SETTINGS, "All that decides the labels, besides picture and words."),
        "labels": described(_list(_LABEL), "All labels, in their order."),
        "origin": described(_ORIGIN, "The model, the engine and the words."),
    },
    optional=("origin",),
)

KEPT = _object(
    {
        "id": {**_TEXT, "pattern": "^[0-9a-f]{32}$"},
        "height": _COUNT,
        "width": _COUNT,
        "windows": described(_COUNT, "Windows that were encoded."),
    }
)

STATUS = _object({"status": _TEXT})

_LIMITS = _object(
    {
        **{field.name: _NUMBER for field in fields(Limits)},
        "scans": described(_COUNT, "Most scans of a JPEG."),
        "refine": _object({"iterations": _COUNT, "dilations": _COUNT, "dilation": _COUNT}),
    }
)

INFO = _object(
    {
        "version": described(_TEXT, "Version of t2d-runtime."),
        "backbone": _TEXT,
        "engine": described(_TEXT, "Engine, version, device and driver."),
        "backend": _TEXT,
        "precision": _TEXT,
        "prompt_sets": described({"type": "object", "additionalProperties": _COUNT}, "Name to number of templates."),
        "defaults": _object({"threshold": _SHARE, "cleaning_weight": _NUMBER, "refine": _PAMR}),
        "live": described(_or_null(_TEXT), "Name of the live source, if there is one."),
        "vocabulary": described(_or_null(_list(_TEXT)), "The only words that are known; null where any are."),
        "formats": described({"type": "object", "additionalProperties": _TEXT}, "Format to its media type."),
        "limits": described(_LIMITS, "Sizes in bytes, times in seconds; docs/service.md explains each."),
    }
)

LIVE_INFO = _object(
    {
        "source": described(_TEXT, "Name of the source; of an address its host alone."),
        "state": {"enum": ["idle", "opening", "live", "away"]},
        "problem": described(_or_null(_TEXT), "Why it is away."),
        "viewers": _COUNT,
        "height": _COUNT,
        "width": _COUNT,
        "frames": described(_COUNT, "Frames segmented so far."),
        "dropped": described(_COUNT, "Frames dropped for newer ones."),
        "frames_per_s": _NUMBER,
        "version": described(_COUNT, "Rises with each change of the words."),
        "words": _object(
            {
                "classes": {"type": "object", "additionalProperties": _list(_TEXT)},
                "negatives": _list(_TEXT),
                "thresholds": {"type": "object", "additionalProperties": _SHARE},
                **_OPTIONS,
            }
        ),
        "labels": described(
            _list(_object({"name": _TEXT, "share": _SHARE, "colour": described(_list(_COUNT, 3), "RGB.")})),
            "Labels in the newest frame, the largest first.",
        ),
    }
)


def answer(description: str, schema: Schema, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """An operation's answer in JSON."""
    return {status: {"description": description, "content": {"application/json": {"schema": schema}}}}
