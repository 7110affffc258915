"""API keys: read from a file or the environment, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from t2d_runtime.errors import OptionError
from t2d_runtime.storage.reading import read_text_file

VARIABLE = "T2D_SERVE_KEY"
"""Environment variable that holds one key."""

SHORTEST = 16
"""Fewest characters of a key."""

NOBODY = ""
"""Owner of a request where no key is asked for."""


class Keys:
    """The keys that open the service. Only their SHA-256 is kept."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key.encode()) for key in keys)

    def owner(self, key: bytes | None) -> str | None:
        """Name of a key's holder, the same for each request with it; None for a wrong key, or none.

        All keys are compared, each in constant time.
        """
        if not self._digests:
            return NOBODY
        given = _digest(b"" if key is None else key)
        found = [hmac.compare_digest(given, digest) for digest in self._digests]
        return given.hex() if any(found) and key is not None else None

    @property
    def wanted(self) -> bool:
        """True where requests need a key."""
        return bool(self._digests)


def read_keys(file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Keys of a file, one a line, `#` for comments, and that of T2D_SERVE_KEY. Raises OptionError."""
    keys = []
    if file is not None:
        lines = read_text_file(file, "a UTF-8 text file with one key a line", OptionError).splitlines()
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise OptionError(f"{file} holds no key; write one a line, such as 'openssl rand -hex 16' makes")
    if environment.get(VARIABLE, "").strip():
        keys.append(environment[VARIABLE].strip())
    for key in keys:
        if len(key) < SHORTEST or not (key.isascii() and key.isprintable()) or " " in key:
            raise OptionError(
                f"a key has {len(key)} characters or a character other than letters, digits and signs; expected at "
                f"least {SHORTEST}, such as 'openssl rand -hex 16' makes"
            )
    return tuple(keys)


def key_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key that a request carries: `Authorization: Bearer KEY`, or `X-API-Key: KEY`."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
