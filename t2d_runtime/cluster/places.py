"""Files and folders on this machine or in a store, through pyarrow's filesystems."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from t2d_runtime.device.install import needs_extra
from t2d_runtime.errors import OptionError

LOCAL = ""
"""Root of the files of this machine, which every machine of a cluster must see under the same path."""

OBJECT_STORES = ("s3", "gcs", "abfs")
"""Filesystems of pyarrow where a written file appears whole, when it is closed. They have no renaming."""

_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<host>[^/?]*)(?P<path>.*?)(?P<query>\?\w+=[^*\[]*)?", re.DOTALL
)
"""An address: s3://bucket/folder?region=eu-central-1. A drive of Windows has one letter; a pattern may have ? too."""


@dataclass(frozen=True)
class Place:
    """A file or a folder of one filesystem."""

    root: str
    """LOCAL, or the address of the filesystem: its scheme, host and query."""
    path: str
    """Path in the filesystem: absolute on this machine, bucket/key in a store."""

    @property
    def filesystem(self) -> Any:
        """The `pyarrow.fs.FileSystem`. Raises OptionError."""
        return filesystem_of(self.root).filesystem

    @property
    def is_local(self) -> bool:
        """True for a file of this machine."""
        return self.root == LOCAL

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot, in small letters; empty where there is none."""
        return os.path.splitext(self.path)[1].lower()  # noqa: PTH122  of any filesystem

    def __str__(self) -> str:
        return shown_path(self.root, self.path)

    def __truediv__(self, name: str) -> Place:
        return Place(self.root, f"{self.path.rstrip('/')}/{name}")

    @property
    def folder(self) -> Place:
        """The folder that holds it."""
        return Place(self.root, self.path.rpartition("/")[0] or "/")


@dataclass(frozen=True)
class _Opened:
    filesystem: Any
    base: str
    """Path of the root in the filesystem: the bucket, or nothing."""
    address: str
    """The root's address without key, password and query."""


def place_of(text: str, folder: Place | None = None) -> Place:
    """The place that a text names: an address such as s3://bucket/pictures, file://, or a path of this machine.

    A relative path is below `folder`, or below the current one. Raises OptionError for an address that pyarrow and
    fsspec do not know.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        if folder is not None and not folder.is_local:
            return folder / text.removeprefix("./").lstrip("/")
        below = folder.path if folder is not None else ""
        return Place(LOCAL, os.path.abspath(os.path.join(below, text)))  # noqa: PTH100, PTH118  lists have millions
    if found["scheme"].lower() == "file":
        return Place(LOCAL, os.path.abspath(unquote(found["path"])))  # noqa: PTH100
    root = f"{found['scheme']}://{found['host']}{found['query'] or ''}"
    return Place(root, (filesystem_of(root).base + found["path"]).rstrip("/"))


def shown_path(root: str, path: str) -> str:
    """A path as people and the dataset have it: absolute, or an address without password and query."""
    if root == LOCAL:
        return path
    opened = filesystem_of(root)
    return opened.address + path.removeprefix(opened.base)


@functools.lru_cache(maxsize=64)
def filesystem_of(root: str) -> _Opened:
    """The filesystem of a root. Raises OptionError for one that neither pyarrow nor fsspec opens."""
    with needs_extra("cluster"):
        from pyarrow import fs
    if root == LOCAL:
        return _Opened(fs.LocalFileSystem(), "", "")
    try:
        filesystem, base = fs.FileSystem.from_uri(root)
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        filesystem, base = _with_fsspec(root, error)
    # The user's part may be a key and its secret; without a secret it names a container (abfs).
    address = re.sub(r"//[^/?@]*:[^/?@]*@", "//", root.partition("?")[0])
    return _Opened(filesystem, base.rstrip("/"), address)


def _with_fsspec(root: str, refused: Exception) -> tuple[Any, str]:
    """The filesystem and the base of a root that pyarrow itself does not know."""
    from fsspec.core import url_to_fs
    from pyarrow import fs

    try:
        filesystem, base = url_to_fs(root.partition("?")[0])
    except (OSError, ValueError, ImportError) as error:
        raise OptionError(
            f"{root} cannot be opened: {refused}; {error}. Expected a path, or an address that pyarrow or fsspec "
            "reads, such as s3:// or gs://"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), base
