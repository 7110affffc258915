"""Gets published weights from a hub into its own cache, where `huggingface_hub` and other programs find them too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from t2d_export.weights.entries import Part
from t2d_export.weights.shards import HUB_NAMES, INDEX_SUFFIX, SUFFIXES, indexed_names
from t2d_runtime.errors import HubError, WeightsError, WeightsNotFoundError
from t2d_runtime.storage.alone import alone
from t2d_runtime.storage.hub import RemoteFile, Snapshot, commit_of, hub_library, look_up_or, patiently
from t2d_runtime.storage.hub_download import fetch
from t2d_runtime.storage.hub_names import HubName
from t2d_runtime.storage.safe_names import unsafe
from t2d_runtime.storage.whole_file import whole_file

SETTINGS = ("config.json", "open_clip_config.json")
"""Small files beside weights that tell the text tower's activation."""

MOVED_BY = "HF_HUB_CACHE"
"""Environment variable that moves the hub's cache."""


@dataclass(frozen=True)
class HubFile:
    """One file of a hub repository at a commit."""

    repository: str
    revision: str
    filename: str

    @property
    def name(self) -> HubName:
        """Its name: hf://ORG/REPO@COMMIT/FILE."""
        return HubName(self.repository, self.revision, self.filename)

    def __str__(self) -> str:
        return str(self.name)


def download(name: HubName, part: Part | None = None) -> tuple[Path, HubName]:
    """Path of weights in the hub's cache, and their name at a commit. They are downloaded if they are not there yet.

    A name without a file is that of the repository's one model, or of the `part` in a model folder. The newest revision
    is asked for once; without a network the newest that is cached is taken, with a warning.
    Raises WeightsNotFoundError where the hub cannot be reached or refuses, WeightsError where a repository holds
    several weights, and OutputError where the disk is too small.
    """
    cached = _cached(name, part)
    if cached is not None and name.is_pinned:
        return cached
    try:
        snapshot = look_up_or(name, cached, cached and cached[1])
    except HubError as error:
        raise WeightsNotFoundError(str(error)) from error
    if not isinstance(snapshot, Snapshot):
        return snapshot
    file = name.file or _chosen(name, snapshot, part)
    pinned = HubName(name.repository, snapshot.commit, file)
    cached = _cached(pinned, part)
    if cached is None:
        try:
            path = _place(snapshot, file)
        except HubError as error:
            raise WeightsNotFoundError(str(error)) from error
        cached = path, pinned
    if not name.is_pinned:
        with whole_file(_folder(name.repository) / "refs" / (name.revision or "main")) as reference:
            reference.write(snapshot.commit.encode())
    return cached


def _folder(repository: str) -> Path:
    """The repository's folder in the hub's cache."""
    return Path(hub_library().constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _cached(name: HubName, part: Part | None) -> tuple[Path, HubName] | None:
    """The weights in the cache, with all their shards, and the commit that they are of."""
    folder = _folder(name.repository)
    commit = commit_of(name, lambda: _recalled(folder / "refs" / (name.revision or "main")))
    if commit is None:
        return None
    snapshot = folder / "snapshots" / commit
    files = [name.file] if name.file else [*([f"{part}.safetensors"] if part else []), *HUB_NAMES]
    if name.file is None and snapshot.is_dir():
        files += sorted(path.name for path in snapshot.iterdir() if path.suffix in SUFFIXES)
    for file in files:
        path = snapshot / file
        if path.is_file():
            needed = indexed_names(path)[0] if file.endswith(INDEX_SUFFIX) else []
            whole = all((path.parent / shard).is_file() for shard in needed)
            return (path, HubName(name.repository, commit, file)) if whole else None
    return None


def _recalled(reference: Path) -> str | None:
    try:
        return reference.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def _chosen(name: HubName, snapshot: Snapshot, part: Part | None) -> str:
    """The file of a repository that is meant by its name alone."""
    for file in (*([f"{part}.safetensors"] if part else []), *HUB_NAMES):
        if file in snapshot.files:
            return file
    weights = [file for file in snapshot.files if file.endswith(SUFFIXES)]
    if len(weights) == 1:
        return weights[0]
    if not weights:
        held = ", ".join(list(snapshot.files)[:5]) or "nothing"
        raise WeightsError(f"{name} holds no weights, only {held}; expected one file of {', '.join(SUFFIXES)}")
    raise WeightsError(
        f"{name} holds {len(weights)} weights ({', '.join(weights[:5])}); give the name of one: {name}/{weights[0]}"
    )


def _place(snapshot: Snapshot, file: str) -> Path:
    """Download a file, its shards and the settings beside it into the hub's cache."""
    if (reason := unsafe(file)) is not None:
        raise WeightsError(f"hf://{snapshot.repository} names {file!r:.100}, which {reason}; nothing was taken from it")
    if file not in snapshot.files:
        name = HubName(snapshot.repository, snapshot.commit, file)
        raise WeightsNotFoundError(
            f"{name}: the repository has no such file; it has {', '.join(list(snapshot.files)[:5])}"
        )
    beside = PurePosixPath(file).parent
    settings = [str(beside / name) for name in SETTINGS if str(beside / name) in snapshot.files]
    paths = _fetched(snapshot, [file, *settings])
    if file.endswith(INDEX_SUFFIX):
        shards = [str(beside / shard) for shard in indexed_names(paths[0])[0]]
        odd = [shard for shard in shards if unsafe(shard) or shard not in snapshot.files]
        if odd:
            raise WeightsError(f"{snapshot.repository}/{file} names the shard {odd[0]!r:.100}, which is not beside it")
        _fetched(snapshot, shards)
    return paths[0]


def _fetched(snapshot: Snapshot, names: list[str]) -> list[Path]:
    """Download files as the cache's blobs, and let `huggingface_hub` link them into the snapshot."""
    folder = _folder(snapshot.repository)
    files = [snapshot.files[name] for name in names]
    # The library's own locks are in .locks too; blobs hold what is whole, whoever brought it.
    with alone(folder.parent / ".locks" / folder.name / "t2d-runtime"):
        wanted = {folder / "blobs" / file.content_name: file for file in files}
        fetch(wanted, label=snapshot.repository, moved_by=MOVED_BY)
    return [Path(patiently(partial(_linked, file), file)) for file in files]


def _linked(file: RemoteFile) -> str:
    path: str = hub_library().hf_hub_download(file.repository, file.path, revision=file.commit)
    return path
