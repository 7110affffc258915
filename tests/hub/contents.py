"""Contents of a hub's files: bytes, or the path of a file that is too large to be kept in memory."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

Content = bytes | Path

LFS_SUFFIXES = (".safetensors", ".pth", ".bin", ".onnx", ".data", ".npz")
"""Suffixes that the hub's usual .gitattributes hands to Git LFS."""


def size_of(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def is_lfs(path: str, content: Content | None) -> bool:
    return path.endswith(LFS_SUFFIXES) or (content is not None and size_of(content) > 1 << 20)


@lru_cache(maxsize=256)
def sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=256)
def git_sha1(content: Content) -> str:
    """The name that Git gives a file's content."""
    digest = hashlib.sha1(f"blob {size_of(content)}\0".encode())
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()
