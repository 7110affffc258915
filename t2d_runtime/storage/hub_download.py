"""Downloads from a hub that go on after an interruption, and are checked before they get their name.

Bytes are written as they arrive to a hidden file beside the target. A download that was cut off or killed goes on
there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import urllib.parse
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2d_runtime.errors import HubError, HubUnreachableError, OutputError
from t2d_runtime.storage.hub import ATTEMPTS, PASSING, RemoteFile, endpoint, hub_library, refusal, unreachable, wait
from t2d_runtime.storage.progress import bars_disabled
from t2d_runtime.storage.whole_file import NAME_PART, cannot_write

if TYPE_CHECKING:
    import httpx2
    from tqdm import tqdm

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""Longest silence of a hub in the middle of a file."""

MARGIN_BYTES = 64 << 20
"""Room that is left on the disk beside the downloads."""

PARTIAL = ".incomplete"
"""Suffix of a file of which a part has arrived."""


def fetch(files: Mapping[Path, RemoteFile], *, label: str, moved_by: str) -> None:
    """Download files to their paths, in a command with one progress bar. Files that exist are left as they are.

    The caller keeps others from these paths meanwhile: see `alone`.
    `moved_by` is the environment variable that moves the folder, for the message about a full disk.
    Raises OutputError before it begins where the disk is too small, and where it cannot be written. Raises
    HubUnreachableError where the connection breaks again and again: the part that has arrived is kept for the next
    call. Raises HubError where the hub refuses, or sends other bytes than it named: nothing is kept of those.
    """
    missing = {target: file for target, file in files.items() if not target.exists()}
    arrived = {target: _arrived(partial_of(target, file)) for target, file in missing.items()}
    total = sum(file.size_bytes for file in missing.values())
    if not missing:
        return
    from tqdm import tqdm  # which asks for its own version, by a module that opening a bundle does not need

    _check_room(next(iter(missing)), total - sum(arrived.values()), label, moved_by)
    logger.info("%s: downloading %d files, %.1f MiB", label, len(missing), total / 2**20)
    bytes_of: dict[str, Any] = {"total": total, "unit": "B", "unit_scale": True, "unit_divisor": 1024}
    with tqdm(**bytes_of, desc=label, disable=bars_disabled(), leave=False) as bar:
        for target, file in missing.items():
            _fetch_one(file, target, bar)


def partial_of(target: Path, file: RemoteFile) -> Path:
    """Path of the part of a file that has arrived."""
    return target.with_name(f".{target.name[:NAME_PART]}-{file.content_name[:16]}{PARTIAL}")


def _arrived(partial: Path) -> int:
    try:
        return partial.stat().st_size
    except OSError:
        return 0


def _check_room(target: Path, needed: int, label: str, moved_by: str) -> None:
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed + MARGIN_BYTES > free:
        raise OutputError(
            f"{label} needs {needed / 2**30:.2f} GiB in {target.parent}, where {free / 2**30:.2f} GiB are free; free "
            f"some space, or set {moved_by} to a folder on a larger disk"
        )


def _fetch_one(file: RemoteFile, target: Path, bar: tqdm[Any]) -> None:
    partial = partial_of(target, file)
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _receive(file, partial, bar)
        finally:
            if partial.exists() and not _arrived(partial) and file.size_bytes:
                partial.unlink()
        partial.replace(target)
    except HubError:
        raise
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        for folder in made:  # only those that nothing was written to
            with contextlib.suppress(OSError):
                folder.rmdir()


def _receive(file: RemoteFile, partial: Path, bar: tqdm[Any]) -> None:
    """Complete the partial file and check it. Raises as `fetch`."""
    continued = _arrived(partial) > 0
    bar.update(min(_arrived(partial), file.size_bytes))
    _complete(file, partial, bar)
    fault = _fault(file, partial)
    if fault and continued:  # the part kept from before may have been another file's
        logger.info("%s: %s; getting all of it again", file, fault)
        partial.unlink()
        bar.update(-file.size_bytes)
        _complete(file, partial, bar)
        fault = _fault(file, partial)
    if fault:
        partial.unlink()
        raise HubError(f"{file}: {fault}: it was damaged on the way or on the hub; nothing of it was kept, try again")


def _complete(file: RemoteFile, partial: Path, bar: tqdm[Any]) -> None:
    """Append what is missing. As long as bytes arrive, a broken connection is opened again."""
    import httpx2

    failures = 0
    with partial.open("ab", buffering=0) as output:
        while (before := output.tell()) != file.size_bytes:
            response: httpx2.Response | None = None
            reason: Exception | None = None
            try:
                response = _append(file, output, bar)
            except httpx2.HTTPError as error:
                reason = error
            after = output.tell()
            if after == file.size_bytes:
                break
            failures = 1 if after > before else failures + 1
            if failures >= ATTEMPTS or (after == 0 and isinstance(reason, httpx2.ConnectError)):
                raise _given_up(file, partial, after, response, reason)
            wait(failures, response, file)
        os.fsync(output.fileno())


def _append(file: RemoteFile, output: FileIO, bar: tqdm[Any]) -> httpx2.Response | None:
    """Stream the file from where `output` ends. Returns the answer of a hub in trouble, else None.

    The client follows the redirect to the storage of large files, and sends the token to the hub alone.
    Raises HubError for a refusal and for an answer that does not fit, and httpx2.HTTPError for a broken connection.
    """
    library = hub_library()
    quoted = urllib.parse.quote(file.path)
    address = f"{endpoint()}/{file.repository}/resolve/{file.commit}/{quoted}"
    start = output.tell()
    if start > file.size_bytes:
        start = _start_again(output, start, bar)
    headers = {**library.utils.build_hf_headers(library_name="t2d-runtime"), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with library.get_session().stream("GET", address, headers=headers, timeout=TIMEOUT_S) as response:
        answer: httpx2.Response = response
        if answer.status_code in PASSING:
            return answer
        if answer.status_code not in (200, 206):
            raise refusal(answer, file)
        if answer.status_code == 200 and start:  # this server gives whole files only
            start = _start_again(output, start, bar)
        promised = answer.headers.get("Content-Length")
        if promised is not None and start + int(promised) != file.size_bytes:
            raise HubError(
                f"{file} has {file.size_bytes} bytes, but the hub sends {start + int(promised)}; try again later"
            )
        for piece in answer.iter_raw():
            if output.tell() + len(piece) > file.size_bytes:
                output.truncate(0)  # an empty part is removed
                raise HubError(
                    f"{file} has {file.size_bytes} bytes, but the hub sends more; nothing of it was kept, try again "
                    "later"
                )
            output.write(piece)
            bar.update(len(piece))
    return None


def _start_again(output: FileIO, had: int, bar: tqdm[Any]) -> int:
    output.truncate(0)
    output.seek(0)
    bar.update(-had)
    return 0


def _given_up(
    file: RemoteFile, partial: Path, arrived: int, response: httpx2.Response | None, reason: Exception | None
) -> HubError:
    """The error after the last try. A part that has arrived stays for the next call; an empty file does not."""
    if not arrived:
        return refusal(response, file) if response is not None else unreachable(file, reason or OSError("no content"))
    why = f"it answers {response.status_code}" if response is not None else " ".join(str(reason or "cut off").split())
    return HubUnreachableError(
        f"{file}: the connection to the hub broke again and again ({why:.200}); {arrived} of {file.size_bytes} bytes "
        "are kept, and the same command goes on from there"
    )


def _fault(file: RemoteFile, partial: Path) -> str:
    """The difference between a file and what the hub named; empty where there is none."""
    if file.sha256 is not None:
        digest, expected, kind = hashlib.sha256(), file.sha256, "sha256"
    elif file.git_sha1 is not None:
        digest, expected, kind = hashlib.sha1(f"blob {file.size_bytes}\0".encode()), file.git_sha1, "Git name"
    else:
        return ""
    with partial.open("rb") as content:
        while piece := content.read(1 << 20):
            digest.update(piece)
    found = digest.hexdigest()
    return "" if found == expected else f"its {kind} is {found[:12]}…, the hub says {expected[:12]}…"
