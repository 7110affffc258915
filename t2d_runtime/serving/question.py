"""Reads named values into a question: the classes, the options of `segment`, and the form of the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from t2d_runtime.bundle.manifest import Defaults, PamrSettings
from t2d_runtime.errors import ClassNamesError, OptionError
from t2d_runtime.image.windows import WindowMode, checked_window
from t2d_runtime.results.options import Cleaning, MaskOptions
from t2d_runtime.serving.answers import Form, form_of
from t2d_runtime.serving.limits import MOST_DILATION, MOST_DILATIONS, MOST_ITERATIONS, Limits
from t2d_runtime.serving.problems import HttpError
from t2d_runtime.words.class_files import parse_words
from t2d_runtime.words.class_list import ClassList, checked_classes
from t2d_runtime.words.text import shortened

MASK_OPTIONS = ("background", "cleaning", "threshold", "cleaning_weight", "refine")

WORDS = ("classes", "negatives", "thresholds", "prompts", *MASK_OPTIONS)
"""Names of words and their options."""

QUESTION = (*WORDS, "format", "legend", "confidence")
"""Names of a question about a picture that is encoded already."""

UPLOAD = ("image", "window")
"""Names of a picture."""


@dataclass(frozen=True)
class Question:
    """A checked question about one picture."""

    classes: ClassList
    prompts: str | tuple[str, ...] | None
    """A set's name or templates; None where none are given."""
    options: MaskOptions
    form: Form


def question_of(values: Mapping[str, Any], accept: str, defaults: Defaults, limits: Limits) -> Question:
    """The question in some values. `accept` is the request's Accept header.

    Raises HttpError (406, 413, 422), ClassNamesError and OptionError.
    """
    options: MaskOptions = {name: values[name] for name in MASK_OPTIONS if name in values}  # type: ignore[assignment]
    if "background" in options:
        options["background"] = _flag("background", options["background"])
    if "cleaning" in options:
        options["cleaning"] = _cleaning(options["cleaning"])
    if "refine" in options:
        options["refine"] = _refine(options["refine"], defaults.pamr)
    legend, confidence = (flag_of(values, name) for name in ("legend", "confidence"))
    form = form_of(values.get("format"), accept, legend=legend, confidence=confidence)
    if form.confidence:
        options["keep_confidence"] = True
    return Question(_classes(values, limits), _prompts(values, limits), options, form)


def window_of(values: Mapping[str, Any]) -> WindowMode:
    """The way in which a picture is encoded. Raises OptionError."""
    window = values.get("window", "slide")
    if not isinstance(window, str):
        raise OptionError(f"window is {window!r:.60}, expected 'slide' or 'whole'")
    return checked_window(window)  # type: ignore[arg-type]


def image_of(values: Mapping[str, Any]) -> bytes:
    """The picture's bytes. Raises HttpError where there are none."""
    if "image" not in values:
        raise HttpError(422, "image is missing: send a picture as the body, as a part of a form, or in base64 in JSON")
    image: bytes = values["image"]
    return image


def _classes(values: Mapping[str, Any], limits: Limits) -> ClassList:
    if "classes" not in values:
        raise ClassNamesError("classes are missing; expected words, such as classes=sky,sea")
    given = values["classes"]
    _check_count("classes", given, limits.phrases)
    if not isinstance(given, str | list | dict):
        raise ClassNamesError(f"classes are {given!r:.60}, expected words, a list of them or an object")
    classes = parse_words(given if isinstance(given, str) else json.dumps(given))
    negatives, thresholds = values.get("negatives", ()), values.get("thresholds")
    if isinstance(negatives, str):
        negatives = parse_words(negatives).names
    _check_count("negatives", negatives, limits.phrases)
    for name, own in (("negatives", classes.negatives), ("thresholds", classes.thresholds)):
        if name in values and own:
            raise OptionError(f"{name} are given twice: among the classes and by themselves; give them once")
    if negatives or thresholds is not None:
        classes = checked_classes(
            classes.phrases, negatives or classes.negatives, classes.thresholds if thresholds is None else thresholds
        )
    if len(classes.all_phrases) > limits.phrases:
        raise HttpError(422, f"{len(classes.all_phrases)} phrases, expected at most {limits.phrases}")
    return classes


def _check_count(name: str, given: Any, most: int) -> None:
    """Raises HttpError for a list or object with too many entries, before each of them is looked at."""
    entries = list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else []
    inner = sum(len(entry) for entry in entries if isinstance(entry, list | dict))
    if len(entries) > most or inner > most:
        raise HttpError(422, f"{name} has {max(len(entries), inner)} entries, expected at most {most}")


def _prompts(values: Mapping[str, Any], limits: Limits) -> str | tuple[str, ...] | None:
    prompts = values.get("prompts")
    if prompts is None or isinstance(prompts, str):
        return prompts
    if not isinstance(prompts, list) or not all(isinstance(template, str) for template in prompts):
        raise OptionError(f"prompts are {prompts!r:.60}, expected the name of a set, or a list of templates with {{}}")
    if len(prompts) > limits.templates or sum(map(len, prompts)) > 1000 * limits.templates:
        raise HttpError(422, f"{len(prompts)} prompt templates, expected at most {limits.templates} short ones")
    return tuple(prompts)


def _cleaning(given: Any) -> bool | Cleaning:
    """The method of cleaning; `off`, as of the command line, is none. Raises OptionError."""
    if given in ("off", *get_args(Cleaning)) or isinstance(given, bool):
        return False if given == "off" else given
    raise OptionError(
        f"cleaning is {_shown(given)}, expected true, false, {' or '.join(get_args(Cleaning))}; off is false"
    )


def _refine(given: Any, default: PamrSettings) -> bool | PamrSettings:
    """PAMR on or off, or its settings, within the service's limits. Raises OptionError."""
    if isinstance(given, bool):
        return given
    settings = given if isinstance(given, dict) else {"": given}
    dilations = settings.get("dilations", list(default.dilations))
    iterations = settings.get("iterations", default.iterations)
    right = (
        set(settings) <= {"dilations", "iterations"}
        and isinstance(dilations, list)
        and 1 <= len(dilations) <= MOST_DILATIONS
        and all(type(number) is int and 1 <= number <= MOST_DILATION for number in dilations)
        and type(iterations) is int
        and 1 <= iterations <= MOST_ITERATIONS
    )
    if not right:
        raise OptionError(
            f"refine is {_shown(given)}, expected true, false, or an object with iterations (1 to {MOST_ITERATIONS}) "
            f"and dilations (1 to {MOST_DILATIONS} numbers from 1 to {MOST_DILATION})"
        )
    return PamrSettings(tuple(dilations), iterations)


def flag_of(values: Mapping[str, Any], name: str) -> bool | None:
    """A flag; None where it is not given. Raises OptionError."""
    return _flag(name, values[name]) if name in values else None


def _flag(name: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise OptionError(f"{name} is {_shown(given)}, expected true or false")
    return given


def _shown(value: Any) -> str:
    """A value as JSON, for messages."""
    return shortened(json.dumps(value, ensure_ascii=False), 80)
