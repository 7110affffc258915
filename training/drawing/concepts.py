"""The concepts that scenes are made of, and the words that captions use for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Concept:
    """A concept's name, its synonyms in captions, and its grammar.

    `countable` things take an article ("a boat"), stuff does not ("sand"). `texture` names a field of
    `training.drawing.textures`. `contrast` is the strength with which it changes the colour (share of full brightness).
    """

    name: str
    synonyms: tuple[str, ...] = ()
    countable: bool = True
    texture: str = "grain"
    contrast: float = 0.03

    @property
    def words(self) -> tuple[str, ...]:
        """Every word for the concept, its name three times as likely as each synonym."""
        return (self.name,) * 3 + self.synonyms


# The index in this tuple is the value in a label map.
CONCEPT_LIST: Final = (
    Concept("sky", (), False, "soft", 0.010),
    Concept("cloud", (), True, "soft", 0.030),
    Concept("sun", (), True, "soft", 0.010),
    Concept("mountain", ("hill",), True, "crag", 0.065),
    Concept("snow", (), False, "soft", 0.022),
    Concept("sea", ("ocean", "water"), False, "wave", 0.060),
    Concept("sand", (), False, "grain", 0.055),
    Concept("grass", ("lawn", "meadow"), False, "blade", 0.090),
    Concept("road", ("street",), True, "grain", 0.035),
    Concept("house", ("building", "cottage"), True, "board", 0.050),
    Concept("roof", (), True, "tile", 0.085),
    Concept("window", (), True, "soft", 0.020),
    Concept("tree", (), True, "leaf", 0.120),
    Concept("pine", ("fir",), True, "needle", 0.110),
    Concept("fence", (), True, "plank", 0.060),
    Concept("flower", ("blossom",), True, "soft", 0.040),
    Concept("person", ("man", "woman"), True, "grain", 0.025),
    Concept("ball", (), True, "soft", 0.020),
    Concept("boat", ("sailboat",), True, "grain", 0.020),
    Concept("car", (), True, "soft", 0.015),
    Concept("rock", ("stone", "boulder"), True, "crag", 0.110),
    Concept("umbrella", ("parasol",), True, "soft", 0.020),
    Concept("balloon", (), True, "soft", 0.020),
    Concept("tent", (), True, "grain", 0.025),
)
CONCEPTS: Final = tuple(concept.name for concept in CONCEPT_LIST)
INDEX: Final = {name: index for index, name in enumerate(CONCEPTS)}
