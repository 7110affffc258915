"""Bundles from a hub: the files that a precision needs, into the user's cache, and nothing that leads out of it.

A pulled bundle is untrusted. Its manifest may name files inside its folder only, its graphs may take weights from files
of the bundle only, and engines, which are programs, are not taken from a hub at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath

from t2d_runtime.bundle.engines import ENGINES_FOLDER
from t2d_runtime.bundle.external_data import external_files
from t2d_runtime.bundle.files import (
    ENCODERS,
    IMAGE_ENCODER,
    MANIFEST,
    PRECISIONS_FOLDER,
    PULLED,
    SEGMENTER,
    SELFTEST,
    TEXT_ENCODER,
    TOKENIZER,
    graph_folder,
    sha256_of,
    weights_of,
)
from t2d_runtime.bundle.manifest import FileRecord, Manifest
from t2d_runtime.errors import BundleError, BundleNotFoundError, OptionError, OutputError
from t2d_runtime.storage.alone import alone
from t2d_runtime.storage.cache import VARIABLE, cache_folder, digest_of, recall, remember, subfolder
from t2d_runtime.storage.hub import Snapshot, commit_of, endpoint, look_up_or
from t2d_runtime.storage.hub_download import fetch
from t2d_runtime.storage.hub_names import HubName, is_hub_name, refuse_other_addresses
from t2d_runtime.storage.kinds import is_file
from t2d_runtime.storage.safe_names import collision, unsafe
from t2d_runtime.storage.whole_file import whole_file
from t2d_runtime.storage.whole_folder import whole_folder

logger = logging.getLogger(__name__)

BUNDLES = "bundles"
"""Folder of the cache for pulled bundles: bundles/ORG--NAME/COMMIT."""

REVISIONS = "hub"
"""Kind of cache entry that keeps the commit of a revision, for when there is no network."""

LARGEST_MANIFEST = 16 << 20

ALL = ("fp32", "fp16", "bf16", "int8")
"""Every precision, for a choice that is made later by measuring."""


def local_bundle(
    bundle: str | PathLike[str], precisions: Collection[str], *, fused: bool = False
) -> str | PathLike[str]:
    """The folder of a bundle: `bundle` itself, or for hf://ORG/BUNDLE[@REVISION] the pulled one in the cache.

    Raises as `pull`, and OptionError for an address of another kind.
    """
    refuse_other_addresses(bundle)
    return pull(HubName.parse(bundle), precisions, fused=fused) if is_hub_name(bundle) else bundle


def pull(
    name: HubName, precisions: Collection[str], *, fused: bool = False, words: bool = True, verify: bool = False
) -> Path:
    """Download what some precisions of a bundle need into the cache; returns the bundle's folder there.

    `fused` takes the fused graph too; without `words` the text encoder stays away, for devices with a vocabulary. No
    precision at all gives the manifest alone. Files that are there already, in their size, are not asked for again;
    `verify` also compares the sha256 of every file of the bundle that is there, and gets again what is damaged. Other
    threads and processes may pull the same bundle meanwhile. The cache need not be writable for what is there.
    Raises HubError and HubUnreachableError, BundleNotFoundError where the repository is no bundle or lacks a file,
    BundleError where the bundle is not what it says or tries to leave its folder, OutputError for too small a disk.
    """
    if name.file is not None:
        raise OptionError(f"{name} names a file; a bundle is a whole repository: hf://ORG/BUNDLE[@REVISION]")
    wanted = _Wanted(name, tuple(precisions), fused=fused, words=words, verify=verify)
    commit = commit_of(name, lambda: (recall(REVISIONS, _key(name)) or {}).get("commit"))
    held = None if commit is None else _folder(name.repository, commit)
    cached = held if held is not None and wanted.is_whole(held) else None
    if cached is not None and name.is_pinned:
        return cached
    snapshot = look_up_or(name, cached, cached)
    if not isinstance(snapshot, Snapshot):
        return snapshot
    folder = _folder(name.repository, snapshot.commit)
    if folder != cached and (folder == held or not wanted.is_whole(folder)):
        if MANIFEST not in snapshot.files:
            raise BundleNotFoundError(
                f"{name} is no bundle: it has no {MANIFEST}; make one with 't2d-export bundle', then 't2d push'"
            )
        if subfolder(BUNDLES, folder.parent.name) is None:
            raise OutputError(f"a bundle from a hub needs a cache; set {VARIABLE} to a folder that can be written")
        with alone(folder):
            _complete(snapshot, folder, wanted)
    if snapshot.commit != commit:
        remember(REVISIONS, _key(name), {"commit": snapshot.commit})
    return folder


@dataclass(frozen=True)
class _Wanted:
    """The part of a bundle that is asked for."""

    name: HubName
    precisions: tuple[str, ...]
    fused: bool
    words: bool
    verify: bool

    def files(self, manifest: Manifest) -> list[str]:
        return wanted_files(manifest, self.precisions, fused=self.fused, words=self.words, where=str(self.name))

    def bad(self, folder: Path, manifest: Manifest) -> list[str]:
        """Files that are missing or of another size; with `verify` also those of another content, wanted or not."""
        wanted = self.files(manifest)
        if self.verify:
            wanted += [file for file in manifest.files if file not in wanted and is_file(folder / file)]
        return [file for file in wanted if not _is_good(folder / file, manifest.files[file], content=self.verify)]

    def is_whole(self, folder: Path) -> bool:
        """True where nothing is to be downloaded. Damage is logged."""
        try:
            manifest = _held_manifest(folder)
        except BundleError as error:
            logger.warning("damaged, to be got again: %s", error)
            return False
        if manifest is None:
            return False
        try:
            bad = self.bad(folder, manifest)
        except BundleError:  # it lacks a precision, which a newer commit may have
            return False
        for path in (folder / file for file in bad):
            if is_file(path):
                logger.warning("damaged, to be got again: %s", path)
        return not bad


def _is_good(path: Path, record: FileRecord, *, content: bool) -> bool:
    if not is_file(path) or path.stat().st_size != record.size_bytes:
        return False
    return not content or sha256_of(path) == record.sha256


def _held_manifest(folder: Path) -> Manifest | None:
    """The manifest of a pulled bundle; None where there is none. Raises BundleError for a damaged one."""
    if not is_file(folder / MANIFEST) or not is_file(folder / PULLED):
        return None
    return Manifest.read(folder / MANIFEST)


def _complete(snapshot: Snapshot, folder: Path, wanted: _Wanted) -> None:
    """Download what is missing or damaged. The caller keeps others away."""
    manifest = _manifest(snapshot, folder, wanted.name)
    bad = wanted.bad(folder, manifest)
    _check_offered(snapshot, manifest, {*wanted.files(manifest), *bad}, wanted.name)
    _take(snapshot, folder, bad, manifest, wanted.name)


def copy_out(folder: Path, output: Path, precisions: Collection[str], *, fused: bool, words: bool) -> None:
    """Make a folder of a pulled bundle's files, as links where the disk is the same. Raises OutputError."""
    manifest = Manifest.read(folder / MANIFEST)
    wanted = wanted_files(manifest, precisions, fused=fused, words=words, where=str(folder))
    with whole_folder(output) as staging:
        for file in (*wanted, MANIFEST, PULLED):
            target = staging / file
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(folder / file, target)
            except OSError:  # another disk, or a file system without links
                shutil.copyfile(folder / file, target)


def wanted_files(manifest: Manifest, precisions: Collection[str], *, fused: bool, words: bool, where: str) -> list[str]:
    """Files of a bundle that some precisions need. Raises BundleError where it lacks one of them."""
    if not precisions:
        return []
    graphs = [IMAGE_ENCODER, *([TEXT_ENCODER] if words else []), *([SEGMENTER] if fused else [])]
    names = [SELFTEST, *([TOKENIZER] if words else [])]
    held = ["fp32", *sorted({PurePosixPath(file).parts[1] for file in manifest.files if _is_in_precision(file)})]
    for precision in precisions if set(precisions) != set(ALL) else held:
        stored = graph_folder(precision)
        # OpenVINO computes bf16 from the graphs in fp32, so these are taken too.
        for folder in {"bf16": ["", *([stored] if "bf16" in held else [])]}.get(precision, [stored]):
            names += [folder + graph for graph in graphs]
    missing = [file for file in names if file not in manifest.files]
    if missing:
        raise BundleError(f"{where} has no {missing[0]}; it has the precisions {', '.join(held)}")
    weights = [weights_of(file) for file in names]
    return list(dict.fromkeys(file for file in (*weights, *names) if file in manifest.files))


def check_names(names: Iterable[str], where: str) -> None:
    """Raise BundleError for a file that would leave the bundle's folder on some system, or that is an engine."""
    names = list(names)
    for name in names:
        if (reason := unsafe(name)) is not None:
            raise BundleError(f"{where}: the manifest names {name!r:.100}, which {reason}; nothing was taken from it")
        if name in (MANIFEST, PULLED):
            raise BundleError(f"{where}: the manifest names {name}, which no bundle lists; nothing was taken from it")
        if name.split("/")[0].casefold() == ENGINES_FOLDER:
            raise BundleError(
                f"{where}: the manifest names {name!r:.100}: an engine is a program, and is not taken from a hub; "
                "build it here with 't2d-export engine'"
            )
    pair = collision([*names, MANIFEST, PULLED])
    if pair is not None:
        raise BundleError(
            f"{where}: the manifest names {pair[0]!r:.100} and {pair[1]!r:.100}, one file on some systems"
        )


def _is_in_precision(file: str) -> bool:
    parts = PurePosixPath(file).parts
    return len(parts) == 3 and parts[0] == PRECISIONS_FOLDER and parts[2] == IMAGE_ENCODER


def _folder(repository: str, commit: str) -> Path:
    """The place of a bundle in the cache, whether it is there or not."""
    cache = cache_folder()
    if cache is None:
        raise OutputError(f"a bundle from a hub needs a cache; set {VARIABLE} to a folder that can be written")
    return cache / BUNDLES / repository.replace("/", "--") / commit


def _key(name: HubName) -> str:
    return digest_of(endpoint(), name.repository, name.revision)


def _manifest(snapshot: Snapshot, folder: Path, name: HubName) -> Manifest:
    """The manifest, checked. The mark that the folder is a pulled bundle is written before any other file."""
    remote = snapshot.files[MANIFEST]
    if remote.size_bytes > LARGEST_MANIFEST:
        raise BundleError(f"{name}: {MANIFEST} has {remote.size_bytes} bytes, expected at most {LARGEST_MANIFEST}")
    with contextlib.suppress(BundleError):  # a damaged one is replaced
        if (held := _held_manifest(folder)) is not None:
            return held
    path = incoming_of(folder) / MANIFEST
    fetch({path: remote}, label=name.repository, moved_by=VARIABLE)
    try:
        manifest = Manifest.from_json(path.read_bytes().decode(), f"{name}: {MANIFEST}")
        check_names(manifest.files, str(name))
    except (BundleError, UnicodeDecodeError) as error:
        _drop(path, incoming_of(folder))
        raise error if isinstance(error, BundleError) else BundleError(f"{name}: {MANIFEST} is no text") from error
    if not is_file(folder / PULLED):  # programs that use the bundle hold the file that is there
        with whole_file(folder / PULLED) as mark:
            mark.write(f"{HubName(name.repository, snapshot.commit)}\n".encode())
    path.replace(folder / MANIFEST)
    return manifest


def _check_offered(snapshot: Snapshot, manifest: Manifest, wanted: Iterable[str], name: HubName) -> None:
    """Raise where the repository's files are not those of the manifest, before they are downloaded."""
    for file in wanted:
        record, offered = manifest.files[file], snapshot.files.get(file)
        if offered is None:
            raise BundleNotFoundError(f"{name}: {file} is missing from the repository; push the bundle again")
        same = offered.size_bytes == record.size_bytes and offered.sha256 in (None, record.sha256)
        if not same:
            raise BundleError(f"{name}: {file} is not the file that the manifest names; push the bundle again")


def incoming_of(folder: Path) -> Path:
    """Folder where files wait until they are checked; it stays after an interruption, so that downloads go on."""
    return folder.with_name(f"{folder.name}.incoming")


def _take(snapshot: Snapshot, folder: Path, files: Iterable[str], manifest: Manifest, name: HubName) -> None:
    """Download files, check them, and move them into the bundle. Raises BundleError for one that is not as it says."""
    incoming = incoming_of(folder)
    arriving = {incoming / file: snapshot.files[file] for file in files}
    fetch(arriving, label=name.repository, moved_by=VARIABLE)
    for path, remote in arriving.items():
        try:
            fault = _fault(path, remote.path, manifest.files)
        except BundleError as error:
            fault = f"is not what it says ({error})"
        if fault:
            _drop(path, incoming)
            raise BundleError(f"{name}: {remote.path} {fault}; nothing of it was kept")
    for path, remote in arriving.items():
        target = folder / remote.path
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        _drop(path, incoming)
    with contextlib.suppress(OSError):
        incoming.rmdir()


def _drop(path: Path, root: Path) -> None:
    """Remove a file, and the folders that it leaves empty."""
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if not folder.is_relative_to(root):
            return
        with contextlib.suppress(OSError):
            folder.rmdir()


def _fault(path: Path, file: str, records: Mapping[str, FileRecord]) -> str:
    if sha256_of(path) != records[file].sha256:
        return "does not have the sha256 in the manifest"
    if PurePosixPath(file).name in (*ENCODERS, SEGMENTER):
        odd = external_files(path) - {PurePosixPath(weights_of(file)).name}
        if odd or (external_files(path) and weights_of(file) not in records):
            named = sorted(odd or external_files(path))[0]
            return f"takes weights from {named!r:.100}, which is no file of the bundle"
    return ""
