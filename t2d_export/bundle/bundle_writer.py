"""Writing a bundle: everything in a temporary folder, verified, then moved into place at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2d_runtime.bundle.files import MANIFEST, check_new_bundle, record_of
from t2d_runtime.bundle.manifest import FileRecord, Manifest
from t2d_runtime.storage.whole_file import whole_file
from t2d_runtime.storage.whole_folder import whole_folder


@contextmanager
def staged_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """`whole_folder` for a bundle, after `check_new_bundle`, before any work."""
    check_new_bundle(output, overwrite=overwrite)
    with whole_folder(output) as folder:
        yield folder


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Records of every file of a bundle besides its manifest, by path relative to the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): record_of(path) for path in files}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json."""
    with whole_file(folder / MANIFEST) as file:
        file.write(manifest.to_json().encode())
