"""Features of an image's windows: arrays of the host, or parts that lie in a GPU's memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.arrays import DeviceArray
from t2d_runtime.errors import BackendError

Floats = NDArray[np.float32]


class FeatureSizes(NamedTuple):
    """Numbers of features, which are known without reading any."""

    windows: int
    grid: tuple[int, int]
    """Patches (h,w) of a window."""
    heads: int
    width: int
    """D of patch tokens."""

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays, once."""
        return 4 * self.windows * self.grid[0] * self.grid[1] * (self.heads + self.width)


class ImageFeatures(Protocol):
    """Features of W windows, wherever they lie."""

    @property
    def sizes(self) -> FeatureSizes:
        """W, h, w, M and D."""

    @property
    def patch_tokens(self) -> Floats:
        """(W,h,w,D), read-only, in the host's memory."""

    @property
    def cls_attention(self) -> Floats:
        """(W,M,h,w) logits before softmax, read-only, in the host's memory."""


@dataclass(frozen=True, eq=False)
class HostFeatures:
    """Arrays of the host, which become read-only."""

    patch_tokens: Floats
    """(W,h,w,D)."""
    cls_attention: Floats
    """(W,M,h,w) logits before softmax."""

    def __post_init__(self) -> None:
        self.patch_tokens.flags.writeable = self.cls_attention.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickled arrays are read-only too."""
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def sizes(self) -> FeatureSizes:
        """See `ImageFeatures.sizes`."""
        windows, h, w, width = self.patch_tokens.shape
        return FeatureSizes(windows, (h, w), self.cls_attention.shape[1], width)


@dataclass(frozen=True, eq=False)
class DeviceFeatures:
    """Outputs of an engine in the memory of GPU 0, which they hold as long as this object lives.

    The arrays are copied to the host where they are first read, and raise BackendError where a value is not finite.
    Pickles hold the copies. Parts of other shapes than these are a BackendError at once.
    """

    windows: int
    """W, of all parts together."""

    token_parts: Sequence[DeviceArray]
    """Patch tokens (.,h*w,D) of some windows each."""
    attention_parts: Sequence[DeviceArray]
    """CLS attention (.,M,h*w) of some windows each."""
    grid: tuple[int, int]
    """Patches (h,w) of a window."""
    engine: str
    """The engine and its precision, for messages."""

    def __post_init__(self) -> None:
        patches = math.prod(self.grid)
        for name, parts, axis in (("patch_tokens", self.token_parts, 1), ("cls_attention", self.attention_parts, 2)):
            shapes = [part.shape for part in parts]
            right = {len(shape) for shape in shapes} == {3} and len({shape[1:] for shape in shapes}) == 1
            if not right or shapes[0][axis] != patches or sum(shape[0] for shape in shapes) != self.windows:
                wanted = f"{self.windows} windows together, {patches} patches along axis {axis}"
                raise wrong_output(self.engine, f"{name} have the shapes {shapes}, expected {wanted}")

    @property
    def sizes(self) -> FeatureSizes:
        """See `ImageFeatures.sizes`."""
        return FeatureSizes(self.windows, self.grid, self.attention_parts[0].shape[1], self.token_parts[0].shape[-1])

    @cached_property
    def patch_tokens(self) -> Floats:
        """See `ImageFeatures.patch_tokens`."""
        tokens = self._copied("patch_tokens", self.token_parts)
        return _read_only(tokens.reshape(-1, *self.grid, tokens.shape[-1]))

    @cached_property
    def cls_attention(self) -> Floats:
        """See `ImageFeatures.cls_attention`."""
        attention = self._copied("cls_attention", self.attention_parts)
        return _read_only(attention.reshape(*attention.shape[:2], *self.grid))

    def __reduce__(self) -> tuple[Callable[..., HostFeatures], tuple[Floats, Floats]]:
        return HostFeatures, (self.patch_tokens, self.cls_attention)

    def _copied(self, name: str, parts: Sequence[DeviceArray]) -> Floats:
        copied = np.concatenate([part.to_host() for part in parts])
        check_finite(name, copied, self.engine)
        return copied


def check_finite(name: str, values: Floats, engine: str) -> None:
    """Raise BackendError where an engine's output holds a value that is not finite."""
    if not np.isfinite(values).all():
        raise not_finite(name, engine)


def not_finite(name: str, engine: str) -> BackendError:
    """The error for such an output."""
    return wrong_output(engine, f"{name} holds values that are not finite")


def wrong_output(engine: str, what: str) -> BackendError:
    """The error for an output that no correct engine gives."""
    return BackendError(f"{engine}: {what}; see 't2d selftest', or choose another backend or precision")


def _read_only(values: Floats) -> Floats:
    values.flags.writeable = False
    return values
