"""The manifest of a bundle: frozen dataclasses <-> manifest.json. The contract between export and runtime."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from t2d_runtime.errors import BundleError
from t2d_runtime.storage.reading import reason_against
from t2d_runtime.storage.strict_json import parse_json

SCHEMA_VERSION = 2

LARGEST_SIZE = 1 << 14
"""Largest side, width or length in a manifest. The published ones end at 2048; larger ones would only fill memory."""

MOST_ITERATIONS, MOST_DILATION = 1000, 512
"""Limits of PAMR's settings, far beyond any use. Images are padded by the largest dilation."""

MOST_DILATIONS = 64
"""Most dilations of PAMR; 6 are published."""

MOST_PREFIX_TOKENS = 1024
"""Most tokens in front of the patches; DINOv2 and DINOv3 have 5."""

SEAL = "content_sha256"
"""The first key of manifest.json: the sha256 of the file without the 64 digits of this value."""

DEFAULT_PROMPTS = "subset"
"""The prompt set of all published figures; every bundle has it."""


@dataclass(frozen=True)
class ModelFacts:
    """Facts about the model in the graphs; sizes are (height, width) in pixels."""

    backbone: str
    projection: str
    embed_dim: int
    """Width D of patch tokens and text embeddings in their shared space."""
    num_heads: int
    patch_size: int
    num_prefix_tokens: int
    """CLS plus register tokens; the graphs' outputs leave them out."""
    input_size: tuple[int, int]
    context_length: int
    """Tokens of the longest prompt the text encoder takes, start and end included."""
    average_tokens: bool = False
    """True where a prompt's feature is the mean of its words (an ablation), False where it is that of the end token."""
    text_activation: Literal["quick_gelu", "gelu"] | None = None
    """The activation of the text tower's feed-forwards; None in bundles of versions that did not write it."""

    @property
    def grid_size(self) -> tuple[int, int]:
        """Patches (h, w) of the input size."""
        return self.input_size[0] // self.patch_size, self.input_size[1] // self.patch_size


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation of RGB pixels after division by 255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class WindowSettings:
    """Sliding window, all in pixels; sizes are (height, width)."""

    short_side: int
    max_long_side: int
    crop_size: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True)
class PamrSettings:
    """Pixel-adaptive mask refinement: dilations in pixels, number of iterations."""

    dilations: tuple[int, ...]
    iterations: int


@dataclass(frozen=True)
class Defaults:
    """Defaults of `segment`."""

    threshold: float
    cleaning_weight: float
    pamr: PamrSettings


@dataclass(frozen=True)
class FileRecord:
    """A file of the bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Source:
    """Origin of weights."""

    name: str
    sha256: str | None


@dataclass(frozen=True)
class Verdict:
    """Verdict on one precision on one backend: whether it runs, and why not."""

    status: Literal["passed", "failed", "unsupported", "untested"]
    reason: str


@dataclass(frozen=True)
class StageParity:
    """Differences of one stage from the reference's output (see `t2d_runtime.proof.parity`)."""

    stage: str
    finite: bool
    max_abs_diff: float
    tolerance: float
    cosine_mean: float | None
    cosine_worst: float | None
    relative_frobenius: float | None
    label_agreement: float | None
    share_below_margin: float | None
    passed: bool
    measure: Literal["max_abs_diff", "relative_frobenius", "label_agreement"] = "max_abs_diff"
    """The value that `tolerance` limits: label agreement from below, the others from above."""

    @property
    def verdict(self) -> str:
        """The measured value and its limit in words."""
        value: float | None = getattr(self, self.measure)
        if not self.finite or value is None:
            return f"{self.stage}: values that are not finite, or another shape"
        if self.measure == "label_agreement":
            return f"{self.stage}: {value:.3%} of the labels agree, at least {self.tolerance:.2%} must"
        name = {"max_abs_diff": "largest difference", "relative_frobenius": "relative norm of the difference"}
        return f"{self.stage}: {name[self.measure]} {value:.3g}, tolerance {self.tolerance:.3g}"


def first_failure(stages: Iterable[StageParity]) -> StageParity | None:
    """The first stage out of tolerance: the fault is there, and later stages follow from it."""
    return next((stage for stage in stages if not stage.passed), None)


def sealed(content: Mapping[str, object]) -> str:
    """The text of manifest.json with this content and a new SEAL."""
    text = json.dumps({SEAL: "", **content} | {SEAL: ""}, indent=2) + "\n"
    return text.replace('""', f'"{_sha256(text)}"', 1)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime knows of a bundle: the content of manifest.json."""

    schema_version: int
    model: ModelFacts
    preprocessing: Preprocessing
    windows: WindowSettings
    defaults: Defaults
    prompt_sets: Mapping[str, tuple[str, ...]]
    files: Mapping[str, FileRecord]
    precisions: Mapping[str, Mapping[str, Verdict]]
    """precision -> backend -> verdict."""
    opset: int
    sources: Mapping[str, Source]
    """backbone, text and projection."""
    exporter: Mapping[str, str]
    """Versions of the packages that wrote the bundle."""
    parity: tuple[StageParity, ...]

    @cached_property
    def digest(self) -> str:
        """Identity of the whole manifest."""
        return _sha256(self.to_json())

    def to_json(self) -> str:
        """The text of manifest.json."""
        return sealed(dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a file as `from_json` does. Raises BundleError, which names the file, also where it cannot be read."""
        try:
            text = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = reason_against(error) if isinstance(error, OSError) else error
            raise BundleError(f"{path} cannot be read as text ({reason}); export the bundle again") from error
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, where: str = "manifest.json") -> Manifest:
        """Read manifest.json strictly: unchanged since it was written, every key known, present and of its type.

        `where` is the file's name in messages. Raises BundleError, which names the place in it, for anything else, and
        for another schema version.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError for a number of thousands of digits too
            raise BundleError(f"{where} is not JSON ({error}); export the bundle again") from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version != SCHEMA_VERSION:
            repair = "update t2d-runtime" if version > SCHEMA_VERSION else "export the bundle again"
            raise BundleError(
                f"{where} has schema version {version}, this t2d-runtime reads {SCHEMA_VERSION}; {repair}"
            )
        stated = data.pop(SEAL, None) if isinstance(data, dict) else None
        if not isinstance(stated, str) or _sha256(text.replace(stated, "", 1)) != stated:
            raise BundleError(
                f"{where} was changed since the export: its text does not have its {SEAL}; copy it or export it again"
            )
        manifest = parse_json(cls, data, where, BundleError)
        manifest._check_ranges(where)
        return manifest

    def _check_ranges(self, file: str) -> None:
        for where, value, holds, expected in self._ranges():
            if not holds:
                raise BundleError(
                    f"{file}: {where} is {value!r:.60}, expected {expected}; correct the model's settings and "
                    "export it again"
                )

    def _ranges(self) -> Iterator[tuple[str, object, bool, str]]:
        """Checked fields: the place, the value, whether it is in range, and the range in words."""
        model, windows, pixels, pamr = self.model, self.windows, self.preprocessing, self.defaults.pamr
        sizes: dict[str, tuple[int, ...]] = {
            "model.embed_dim": (model.embed_dim,),
            "model.num_heads": (model.num_heads,),
            "model.patch_size": (model.patch_size,),
            "model.input_size": model.input_size,
            "windows.short_side": (windows.short_side,),
            "windows.max_long_side": (windows.max_long_side,),
            "windows.crop_size": windows.crop_size,
            "windows.stride": windows.stride,
        }
        for where, values in sizes.items():
            within = min(values, default=0) >= 1 and max(values) <= LARGEST_SIZE
            yield where, values, within, f"positive numbers up to {LARGEST_SIZE}"
        prefix = model.num_prefix_tokens
        yield "model.num_prefix_tokens", prefix, 0 <= prefix <= MOST_PREFIX_TOKENS, f"0 to {MOST_PREFIX_TOKENS}"
        patches = not any(side % model.patch_size for side in model.input_size)
        yield "model.input_size", model.input_size, patches, f"multiples of the patch size {model.patch_size}"
        length = model.context_length
        yield "model.context_length", length, 3 <= length <= LARGEST_SIZE, "3 or more: start, a word, end"
        covered = all(step <= side for step, side in zip(windows.stride, windows.crop_size, strict=True))
        yield "windows.stride", windows.stride, covered, f"no more than the crop_size {windows.crop_size}"
        yield "preprocessing.mean", pixels.mean, all(map(math.isfinite, pixels.mean)), "finite numbers"
        yield "preprocessing.std", pixels.std, all(0 < value < math.inf for value in pixels.std), "numbers above 0"
        threshold, weight = self.defaults.threshold, self.defaults.cleaning_weight
        yield "defaults.threshold", threshold, 0 <= threshold <= 1, "0 to 1"
        yield "defaults.cleaning_weight", weight, 0 <= weight < math.inf, "a finite number from 0"
        dilations, iterations = pamr.dilations, pamr.iterations
        few = 1 <= len(dilations) <= MOST_DILATIONS and all(1 <= step <= MOST_DILATION for step in dilations)
        expected = f"positive numbers up to {MOST_DILATION}, at most {MOST_DILATIONS} of them"
        yield "defaults.pamr.dilations", dilations, few, expected
        yield "defaults.pamr.iterations", iterations, 0 <= iterations <= MOST_ITERATIONS, f"0 to {MOST_ITERATIONS}"
        usual = DEFAULT_PROMPTS in self.prompt_sets
        yield "prompt_sets", sorted(self.prompt_sets), usual, f"{DEFAULT_PROMPTS!r} among them"
        for name, templates in self.prompt_sets.items():
            places = bool(templates) and all("{}" in template for template in templates)
            yield f"prompt_sets.{name}", templates, places, "one or more templates, each with {} for the name"
