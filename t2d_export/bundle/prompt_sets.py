"""The prompt sets of the released code; {} is the class name."""

from __future__ import annotations

from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

PROMPT_SETS: dict[str, tuple[str, ...]] = {
    # Seven of CLIP's templates, the best combination according to its authors. All published figures use them.
    "subset": (
        "itap of a {}.",
        "a bad photo of a {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
    "simple": ("a photo of a {}.",),
    "identity": ("{}",),
    "maskclip": (
        "there is a {} in the scene.",
        "there is the {} in the scene.",
        "this is a {} in the scene.",
        "this is the {} in the scene.",
        "this is one {} in the scene.",
    ),
    "full": tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES),
}
