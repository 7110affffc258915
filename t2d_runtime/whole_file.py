"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from t2d_runtime.errors import OutputError, T2DError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under `path` only when the block ends without an error. Raises OutputError.

    Its content is on the disk before its name is, so that a power cut leaves the old file or the new one, never an
    empty one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except T2DError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; free some space") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
