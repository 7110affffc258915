"""Encoded pictures kept for more questions: each belongs to a key, and the least used go first."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass

from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.serving.problems import HttpError

ID_BYTES = 16
"""128 random bits: an id cannot be guessed."""


@dataclass(frozen=True)
class _Kept:
    owner: str
    encoding: ImageEncoding
    size_bytes: int


class ImageStore:
    """Encoded pictures by id, bounded in bytes. Used from one thread."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.size_bytes = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, encoding: ImageEncoding, owner: str) -> str:
        """Keep a picture; returns its id. Raises HttpError where it alone exceeds the store."""
        size = encoding.nbytes
        if size > self.most_bytes:
            raise HttpError(
                413, f"the encoded picture has {size} bytes, more than the {self.most_bytes} kept; shrink it"
            )
        while self.size_bytes + size > self.most_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.size_bytes -= dropped.size_bytes
        name = secrets.token_hex(ID_BYTES)
        self._kept[name] = _Kept(owner, encoding, size)
        self.size_bytes += size
        return name

    def get(self, name: str, owner: str) -> ImageEncoding:
        """A picture of this owner, which is now the last to go. Raises HttpError: 404 for all others."""
        encoding = self._find(name, owner).encoding
        self._kept.move_to_end(name)
        return encoding

    def remove(self, name: str, owner: str) -> None:
        """Forget a picture of this owner. Raises HttpError as `get`."""
        self.size_bytes -= self._find(name, owner).size_bytes
        del self._kept[name]

    def _find(self, name: str, owner: str) -> _Kept:
        found = self._kept.get(name)
        if found is None or found.owner != owner:  # another's picture is told from none by nobody
            raise HttpError(404, "no picture has this id; it was deleted, or dropped for newer ones: send it again")
        return found
