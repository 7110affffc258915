"""Captions of a scene: natural sentences that name one to three of the things in it."""

from __future__ import annotations

from typing import Final

import numpy as np

from training.drawing.composition import Composition, Placed
from training.drawing.concepts import CONCEPT_LIST, INDEX
from training.drawing.layouts import SKY_THINGS

SINGLE: Final = (
    "a photo of {}.",
    "a picture of {}.",
    "{}",
    "there is {} in the scene.",
    "a drawing of {}.",
    "art of {}.",
    "a scene with {}.",
    "itap of {}.",
    "a bad photo of {}.",
    "a photo of the small {bare}.",
    "a photo of the large {bare}.",
    "a {bare} in a video game.",
    "a view of {}.",
    "look at {}!",
)
PAIR: Final = (
    "{} and {}",
    "{} with {}",
    "a photo of {} and {}.",
    "{} near {}",
    "there is {} and {}.",
    "{} beside {}.",
)
TRIPLE: Final = (
    "{}, {} and {}",
    "a picture with {}, {} and {}.",
    "{} and {} with {}",
    "we see {}, {} and {}.",
)
PLACE: Final = ("{} in {place}", "{} {light}", "{}, seen {light}.", "{place} with {}")
CAPTIONS: Final = 6


def _article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _word(rng: np.random.Generator, name: str) -> str:
    words = CONCEPT_LIST[INDEX[name]].words
    return words[int(rng.integers(len(words)))]


def _phrase(rng: np.random.Generator, name: str, adjective: str | None) -> str:
    """A noun phrase: "a red car", "the sea", "sand"."""
    word = _word(rng, name)
    if not CONCEPT_LIST[INDEX[name]].countable or name == "sun":
        return f"the {word}" if rng.random() < 0.6 else word
    described = f"{adjective} {word}" if adjective is not None and rng.random() < 0.4 else word
    return _article(described)


def _relation(rng: np.random.Generator, thing: Placed, things: tuple[Placed, ...], visible: list[str]) -> str:
    """A phrase for a thing's place: on its ground, or left or right of another thing."""
    subject = _phrase(rng, thing.name, thing.adjective)
    others = [other for other in things if other.name != thing.name and other.name in visible]
    if others and rng.random() < 0.5:
        other = others[int(rng.integers(len(others)))]
        side = "left" if thing.x < other.x else "right"
        return f"{subject} to the {side} of {_phrase(rng, other.name, other.adjective)}."
    if thing.ground not in visible:
        return subject
    place = "in" if thing.name in SKY_THINGS else "on"
    return f"{subject} {place} the {_word(rng, thing.ground)}"


def write_captions(rng: np.random.Generator, scene: Composition, visible: list[str]) -> tuple[str, ...]:
    """Six captions, two of which name a single thing. `visible` are the visible concepts.

    The captions take the visible concepts in random order, so that together they name most of them.
    """
    adjectives = {thing.name: thing.adjective for thing in scene.things}
    order = [visible[i] for i in rng.permutation(len(visible))]

    def take(count: int) -> list[str]:
        names = order[:count]
        order[:] = order[count:] + names
        return [_phrase(rng, name, adjectives.get(name)) for name in names]

    captions = []
    for _ in range(2):
        name = order[0]
        template = SINGLE[int(rng.integers(len(SINGLE)))]
        captions.append(template.format(*take(1), bare=_word(rng, name)))
    captions.append(PAIR[int(rng.integers(len(PAIR)))].format(*take(2)) if len(visible) > 1 else take(1)[0])
    if len(visible) > 2:
        captions.append(TRIPLE[int(rng.integers(len(TRIPLE)))].format(*take(3)))
    place = PLACE[int(rng.integers(len(PLACE)))]
    captions.append(place.format(*take(1), place=scene.layout.place, light=scene.light.word))
    standing = [thing for thing in scene.things if thing.name in visible]
    while len(captions) < CAPTIONS:
        if standing and rng.random() < 0.7:
            captions.append(_relation(rng, standing[int(rng.integers(len(standing)))], scene.things, visible))
        else:
            captions.append(SINGLE[int(rng.integers(4))].format(*take(1)))
    return tuple(captions)
