"""Parts of the service's OpenAPI description that FastAPI does not find in the code."""

from __future__ import annotations

from typing import Any

from t2d_runtime.serving.answer_schemas import RESULT, Schema
from t2d_runtime.serving.answers import FORMATS
from t2d_runtime.serving.body import LONGEST_TEXT
from t2d_runtime.serving.limits import MOST_DILATION, MOST_DILATIONS, MOST_ITERATIONS, Limits
from t2d_runtime.serving.problems import MEDIA_TYPE
from t2d_runtime.words.text import MAX_NAME_LENGTH

TITLE = "Segment pictures by words"

ABOUT = (
    "Send a picture and words; each pixel gets the word that fits best. Errors are application/problem+json with one "
    "line in `detail`. Where the server was started with a key, send `Authorization: Bearer KEY`."
)

NAME: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}

_PROBLEM: Schema = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was expected, what was got, and what to do."},
    },
}

_PAMR: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "iterations": {"type": "integer", "minimum": 1, "maximum": MOST_ITERATIONS},
        "dilations": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_DILATIONS,
            "items": {"type": "integer", "minimum": 1, "maximum": MOST_DILATION},
        },
    },
}

LEGEND: dict[str, Schema] = {
    "legend": {"description": "A legend below the overlay; default: true.", "type": ["boolean", "null"]}
}

WINDOW: dict[str, Schema] = {
    "window": {"description": "Sliding windows as published, or one.", "enum": ["slide", "whole", None]}
}

_BASE64: Schema = {"type": "string", "contentEncoding": "base64", "description": "The picture's bytes in base64."}
_BINARY: Schema = {"type": "string", "format": "binary", "description": "The picture's bytes."}


def words(limits: Limits) -> dict[str, Schema]:
    """Names of words and their options."""
    names = {"type": "array", "items": NAME, "minItems": 1, "maxItems": limits.phrases}
    return {
        "classes": {
            "description": "Any words: separated by commas, a list, or an object from names to synonyms.",
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT},
                names,
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": limits.phrases,
                    "additionalProperties": {"anyOf": [NAME, names]},
                },
            ],
            "examples": ["sky,sea", ["sky", "sea"], {"person": ["man", "woman"], "grass": "grass"}],
        },
        "negatives": {
            "description": "Words that compete and become label 0, background.",
            "anyOf": [NAME, {**names, "minItems": 0}, {"type": "null"}],
        },
        "thresholds": {
            "description": "Class to the score that it must exceed; with background.",
            "type": ["object", "null"],
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "prompts": {
            "description": "A prompt set of the bundle, or templates with {} for the word.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": limits.templates},
                {"type": "null"},
            ],
        },
        "background": {"description": "Label 0 where no word fits.", "type": ["boolean", "null"]},
        "cleaning": {
            "description": "Background cleaning; default: as background.",
            "anyOf": [{"type": ["boolean", "null"]}, {"enum": ["official", "paper", "off"]}],
        },
        "threshold": {
            "description": "Score that a class must exceed; with background.",
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
        },
        "cleaning_weight": {
            "description": "Lambda of the cleaning.",
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1e30,
        },
        "refine": {"description": "Refine edges with PAMR.", "anyOf": [{"type": ["boolean", "null"]}, _PAMR]},
    }


def questions(limits: Limits) -> dict[str, Schema]:
    """Names of words, their options, and the form of the answer."""
    return {
        **words(limits),
        "format": {"description": "Form of the answer; default: by Accept, else json.", "enum": [*FORMATS, None]},
        **LEGEND,
        "confidence": {
            "description": "Mean scores of the labels; in npz the winning score of each pixel. Not in pictures.",
            "type": ["boolean", "null"],
        },
    }


def _object(properties: dict[str, Schema], required: tuple[str, ...]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def upload(values: dict[str, Schema], required: tuple[str, ...]) -> Schema:
    """An operation's request body that carries a picture, and its query."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _object({"image": _BINARY, **values}, ("image", *required))},
                "application/json": {"schema": _object({"image": _BASE64, **values}, ("image", *required))},
                "image/*": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "parameters": query(values),
    }


def question(values: dict[str, Schema], required: tuple[str, ...]) -> Schema:
    """An operation's request body about a picture that is encoded already, and its query."""
    form = {"schema": _object(values, required)}
    return {
        "requestBody": {"required": False, "content": {"application/json": form, "multipart/form-data": form}},
        "parameters": query(values),
    }


def query(values: dict[str, Schema]) -> list[Schema]:
    """Names in the address; objects and lists as JSON."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": {"type": "string"},
        }
        for name, schema in values.items()
    ]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation."""
    meaning = {
        400: "Not HTTP, not the form that the body's type says, or no host",
        401: "No key, or a wrong one",
        403: "A page of another site",
        404: "No such picture",
        406: "No form of the answer is acceptable",
        408: "The body came too slowly",
        413: "Body, pixels or words above the limit",
        415: "Not a picture, or a body of another type",
        421: "Another host's name",
        422: "Words or options that cannot be used",
        429: "The queue is full, open uploads are too large, or too many look; Retry-After says when to come again",
        500: "A fault of the server; its log says why",
        501: "A package of the server is missing",
        503: "No turn came before the deadline, or too many connections are open",
        504: "Not done before the deadline",
    }
    return {
        status: {"description": meaning[status], "content": {MEDIA_TYPE: {"schema": _PROBLEM}}} for status in statuses
    }


WORK = (400, 401, 403, 406, 408, 413, 415, 421, 422, 429, 500, 501, 503, 504)
"""Errors of operations that segment."""

READ = (400, 401, 403, 421, 500)
"""Errors of the other operations."""

ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The labels, in the form that was asked for",
        "content": {
            "application/json": {"schema": RESULT},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/x-npz": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

LIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A JPEG picture for each frame, as parts of one answer that does not end",
        "content": {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def checked(limits: Limits) -> str:
    """The limits in words, for the description."""
    return (
        f"{ABOUT} At most {limits.pixels:,} pixels, {limits.body_bytes:,} bytes and {limits.phrases} phrases; an "
        f"answer within {limits.deadline_s:g} s."
    )
