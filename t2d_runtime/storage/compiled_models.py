"""Models compiled by an engine, in the user's cache: one folder each, with a limit on their total size.

A compiled model is as large as its weights. Without a limit, bundle after bundle would fill a device's disk.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from t2d_runtime.errors import OptionError
from t2d_runtime.storage.cache import cache_folder, subfolder

logger = logging.getLogger(__name__)

LIMIT_VARIABLE = "T2D_CACHE_GIB"
"""Environment variable that limits the compiled models, in GiB; 0 keeps none."""

DEFAULT_LIMIT_GIB = 4.0
"""Room for seven bundles of ViT-B in float32, more than a device switches between."""


def compiled_limit() -> int:
    """Limit of compiled models in bytes: T2D_CACHE_GIB, else 4 GiB. Raises OptionError."""
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GIB)
    try:
        gib = float(text)
    except ValueError:
        gib = -1.0
    if not 0 <= gib < float("inf"):
        raise OptionError(f"{LIMIT_VARIABLE}: expected a number of GiB from 0, got {text!r}")
    return int(gib * 2**30)


def compiled_folder(engine: str, key: str) -> Path | None:
    """Folder of an engine's compiled model. None where the limit is 0 or the folder cannot be written.

    Raises OptionError where the limit is no number.
    """
    return subfolder(engine, key) if compiled_limit() else None


def compiled_size(engine: str) -> int:
    """Bytes of an engine's compiled models."""
    cache = cache_folder()
    return 0 if cache is None else size_of_folder(cache / engine)


def keep_within_limit(used: Path) -> None:
    """Mark a compiled model as used now, and remove those used longest ago until the rest is within the limit.

    The model just used stays, however large it is.
    """
    limit = compiled_limit()
    try:
        os.utime(used)
        ages = [(path.stat().st_mtime, path) for path in used.parent.iterdir() if path != used]
    except OSError as error:  # another process may be making room too
        logger.warning("compiled models are not kept within their limit: %s", error)
        return
    kept = size_of_folder(used)
    for _, path in sorted(ages, reverse=True):
        kept += size_of_folder(path)
        if kept > limit:
            logger.info("compiled model %s removed: %s allows %.3g GiB", path, LIMIT_VARIABLE, limit / 2**30)
            shutil.rmtree(path, ignore_errors=True)  # a file that another process holds open may stay until next time


def size_of_folder(folder: Path) -> int:
    """Bytes of the files below a folder; 0 where it is missing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:  # removed meanwhile by another process
                continue
    return total
