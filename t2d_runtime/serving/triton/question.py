"""Reads a request's tensors and parameters: a picture, its classes and the options of `segment`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.errors import ClassNamesError, ImageError, OptionError
from t2d_runtime.results.options import SegmentOptions
from t2d_runtime.serving.triton.tensors import Tensors
from t2d_runtime.words.class_files import parse_words
from t2d_runtime.words.class_list import ClassList, checked_classes

IMAGE, ENCODED_IMAGE, WORDS, WORDS_JSON = "image", "encoded_image", "words", "words_json"
"""Inputs of the model: one of the first two, and one of the last two."""

PROMPTS = "prompts"
OPTIONS = ("background", "cleaning", "threshold", "cleaning_weight", "refine", "window")
"""Parameters of a request, besides PROMPTS; they are options of `Segmenter.segment`."""

RESERVED = "triton_"
"""Start of the names that Triton keeps for its own parameters."""


@dataclass(frozen=True)
class Question:
    """One request, read: pictures are still as they came."""

    image: bytes | NDArray[np.uint8]
    classes: ClassList
    prompts: str | tuple[str, ...]
    options: SegmentOptions


def question_of(request: Any, tensors: Tensors) -> Question:
    """The question of a request of the Python backend. Raises ImageError, ClassNamesError and OptionError."""
    inputs = {tensor.name(): tensor for tensor in request.inputs()}
    parameters = _parameters(request.parameters())
    prompts = _prompts(parameters.pop(PROMPTS, DEFAULT_PROMPTS))
    options: SegmentOptions = parameters  # type: ignore[assignment]
    return Question(_image(inputs, tensors), _classes(inputs, tensors), prompts, options)


def _image(inputs: Mapping[str, Any], tensors: Tensors) -> bytes | NDArray[np.uint8]:
    given = [name for name in (IMAGE, ENCODED_IMAGE) if name in inputs]
    if len(given) != 1:
        raise ImageError(
            f"a request has {' and '.join(given) or 'no picture'}; expected either {IMAGE}, (H,W,3) uint8 RGB, or "
            f"{ENCODED_IMAGE}, the bytes of a picture file"
        )
    values = tensors.numbers(inputs[given[0]])
    return values if given == [IMAGE] else values.tobytes()


def _classes(inputs: Mapping[str, Any], tensors: Tensors) -> ClassList:
    given = [name for name in (WORDS, WORDS_JSON) if name in inputs]
    if len(given) != 1:
        raise ClassNamesError(
            f"a request has {' and '.join(given) or 'no words'}; expected either {WORDS}, one class a string, or "
            f'{WORDS_JSON}, the UTF-8 bytes of JSON such as ["sky", "sea"]'
        )
    if given == [WORDS]:
        return checked_classes(tensors.texts(inputs[WORDS]))
    try:
        text = tensors.numbers(inputs[WORDS_JSON]).tobytes().decode()
    except UnicodeDecodeError as error:
        raise ClassNamesError(f"{WORDS_JSON} is not UTF-8: {error}") from error
    if text.lstrip()[:1] not in ("[", "{"):
        raise ClassNamesError(f'{WORDS_JSON} is {text[:60]!r}, expected a list such as ["sky", "sea"], or an object')
    return parse_words(text)


def _parameters(text: str) -> dict[str, Any]:
    given = {name: value for name, value in json.loads(text or "{}").items() if not name.startswith(RESERVED)}
    known = (*OPTIONS, PROMPTS)
    if unknown := sorted(given.keys() - set(known)):
        raise OptionError(f"unknown parameters {[name[:40] for name in unknown[:5]]}, expected some of {list(known)}")
    return {name: _flag(name, value) for name, value in given.items()}


def _flag(name: str, value: Any) -> Any:
    """The value, of flags also from the numbers 0 and 1: some clients have no boolean parameters."""
    return bool(value) if name in ("background", "refine") and type(value) is int and value in (0, 1) else value


def _prompts(given: Any) -> str | tuple[str, ...]:
    """A set's name, or templates from a JSON list in a text, since a parameter is no list."""
    templates = given
    if isinstance(given, str) and given.lstrip().startswith("["):
        try:
            templates = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise OptionError(f"{PROMPTS} is no JSON: {error}") from error
    if isinstance(templates, str):
        return templates
    if not isinstance(templates, list) or not all(isinstance(template, str) for template in templates):
        raise OptionError(
            f"{PROMPTS} is {given!r:.60}, expected the name of a prompt set, or templates as JSON: "
            '["a photo of a {}."]'
        )
    return tuple(templates)
