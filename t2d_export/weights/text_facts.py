"""Finds a text tower's activation and number of heads, which its keys do not tell, from the origin of the file.

CLIPs with the same keys and shapes differ in their activation: OpenAI's has QuickGELU; LAION's, DataComp's and
OpenCLIP's own have GELU. The facts come from, in this order: the settings beside the weights, the hub repository in
their path, the tag in the file's name, and the digest.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from open_clip.pretrained import get_pretrained_cfg, list_pretrained
from torch import Tensor

from t2d_runtime.errors import WeightsError

Activation = Literal["quick_gelu", "gelu"]

ACTIVATIONS: tuple[str, ...] = get_args(Activation)

OPENAI_MARKS = frozenset(("input_resolution", "context_length", "vocab_size"))
"""Entries that only OpenAI's own code saves beside the weights. Its activation is QuickGELU."""

SHORTEST_TAG = 6
"""Letters of the shortest open_clip tag looked for in a file's name. Shorter ones are common words ("v1")."""

OTHER_REPOSITORIES: Mapping[str, Activation] = {
    "openai/clip-vit-base-patch32": "quick_gelu",
    "openai/clip-vit-base-patch16": "quick_gelu",
    "openai/clip-vit-large-patch14": "quick_gelu",
    "openai/clip-vit-large-patch14-336": "quick_gelu",
    "lorebianchi98/Talk2DINO-ViTB": "quick_gelu",
    "lorebianchi98/Talk2DINO-ViTL": "quick_gelu",
    "lorebianchi98/Talk2DINOv3-ViTB": "quick_gelu",
    "lorebianchi98/Talk2DINOv3-ViTL": "quick_gelu",
}
"""Repositories with towers of OpenAI's CLIP that open_clip does not list."""


@dataclass(frozen=True)
class TextFacts:
    """Facts of a text tower besides its weights; None where one is not known."""

    activation: Activation | None = None
    heads: int | None = None
    told_by: str = ""
    """Source of these facts, for messages."""


OPENAI = TextFacts("quick_gelu", told_by="OpenAI's CLIP")


def text_facts(
    path: Path, tensors: Mapping[str, Tensor], sha256: str | None, asked: Activation | None = None
) -> TextFacts:
    """Facts of the text tower in a file or folder with these `tensors`; `asked` is the activation that the user names.

    Raises WeightsError, unless the user names one, where two settings beside it contradict each other or name another
    activation.
    """
    try:
        beside = _settings_beside(path)
    except WeightsError:
        if asked is None:
            raise
        beside = TextFacts()
    if beside.activation is not None:
        return beside
    found = _by_name(path) or _by_digest(sha256)
    if found is None and tensors.keys() >= OPENAI_MARKS:
        found = OPENAI
    return TextFacts(found.activation, beside.heads, found.told_by) if found else beside


def _settings_beside(path: Path) -> TextFacts:
    folder = path if path.is_dir() else path.parent
    found = []
    for name, read in (("open_clip_config.json", _of_open_clip), ("config.json", _of_config)):
        content = _json(folder / name)
        facts = read(content, str(folder / name)) if content is not None else None
        found += [facts] if facts is not None else []
    if len({facts.activation for facts in found}) > 1:
        said = " and ".join(f"{facts.told_by} says {facts.activation}" for facts in found)
        raise WeightsError(f"{path}: {said}; name the text tower's own with --text-activation")
    return found[0] if found else TextFacts()


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # not settings of this file, so it tells nothing; the caller logs that
    return content if isinstance(content, dict) else None


def _of_open_clip(content: dict[str, Any], where: str) -> TextFacts | None:
    """Facts from open_clip's settings: GELU unless they name QuickGELU."""
    model = content.get("model_cfg")
    if not isinstance(model, dict):
        return None
    text = model.get("text_cfg")
    heads = text.get("heads") if isinstance(text, dict) else None
    activation: Activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    return TextFacts(activation, _positive(heads), where)


def _of_config(content: dict[str, Any], where: str) -> TextFacts | None:
    """Facts from a model folder's config.json or from transformers', whose CLIP has QuickGELU by default."""
    own = content.get("text")
    if isinstance(own, dict) and own.get("activation") in ACTIVATIONS:
        return TextFacts(own["activation"], _positive(own.get("heads")), where)
    if content.get("model_type") == "clip_text_model":
        text = content
    elif content.get("model_type") == "clip" or "text_config" in content:
        text = _dict(content.get("text_config")) | _dict(content.get("text_config_dict"))
    else:
        return None
    activation = text.get("hidden_act", "quick_gelu")
    if activation not in ACTIVATIONS:
        raise WeightsError(
            f"{where}: hidden_act is {activation!r:.40}, expected {' or '.join(ACTIVATIONS)}; name the one that is "
            "meant with --text-activation"
        )
    return TextFacts(activation, _positive(text.get("num_attention_heads")), where)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


@functools.cache
def _pretrained() -> tuple[tuple[str, str, str, str, Activation], ...]:
    """open_clip's models: name, tag, hub repository, address, activation."""
    found = []
    for model, tag in list_pretrained():
        settings = get_pretrained_cfg(model, tag)
        repository = "/".join(settings.get("hf_hub", "").split("/")[:2])
        activation: Activation = "quick_gelu" if settings.get("quick_gelu") else "gelu"
        found.append((model, tag, repository, settings.get("url", ""), activation))
    return tuple(found)


def _by_name(path: Path) -> TextFacts | None:
    """Facts from the repository that names a folder above the file, or from the tag in the file's own name."""
    folders = {part.lower() for part in path.absolute().parts}
    known = {repository: activation for _, _, repository, _, activation in _pretrained() if repository}
    for repository, activation in (known | dict(OTHER_REPOSITORIES)).items():
        owner, _, name = repository.lower().partition("/")
        if f"models--{owner}--{name}" in folders or name in (path.name.lower(), path.parent.name.lower()):
            return TextFacts(activation, told_by=f"its repository, {repository},")
    return _by_tag(path.stem if path.is_file() else path.name)


def _by_tag(stem: str) -> TextFacts | None:
    """Facts from one of open_clip's tags, with its model where the tag is ambiguous, or from the word "quickgelu"."""
    name = _plain(stem)
    if "_quickgelu_" in name:
        return TextFacts("quick_gelu", told_by=f"its name, {stem},")
    tagged = [
        (model, activation)
        for model, tag, _, _, activation in _pretrained()
        if len(tag) >= SHORTEST_TAG and _plain(tag) in name and not model.endswith("-quickgelu")
    ]
    of_model = [activation for model, activation in tagged if _plain(model) in name]
    activations = set(of_model or [activation for _, activation in tagged])
    return TextFacts(activations.pop(), told_by=f"its name, {stem},") if len(activations) == 1 else None


def _plain(name: str) -> str:
    """The name in lower case, with words between single underscores."""
    return f"_{re.sub(r'[^a-z0-9]+', '_', name.lower())}_"


def _by_digest(sha256: str | None) -> TextFacts | None:
    """Facts from the sha256 in one of open_clip's or OpenAI's addresses, whole or its first eight digits."""
    for model, tag, _, url, activation in _pretrained():
        if sha256 and any(sha256.startswith(digits) for digits in _digests(url)):
            return TextFacts(activation, told_by=f"its sha256, that of {model} {tag},")
    return None


def _digests(url: str) -> Iterator[str]:
    yield from re.findall(r"/([0-9a-f]{64})/", url)
    yield from re.findall(r"-([0-9a-f]{8})\.pt$", url)
