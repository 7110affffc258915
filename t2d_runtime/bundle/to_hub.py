"""Pushes a bundle to a hub: its own files and a model card, in one commit. Engines, which are programs, stay here."""

from __future__ import annotations

import warnings
from pathlib import Path

from t2d_runtime.bundle.files import MANIFEST, Bundle
from t2d_runtime.bundle.from_hub import check_names
from t2d_runtime.errors import BundleError, BundleNotFoundError, HubError, HubUnreachableError, OptionError, OutputError
from t2d_runtime.storage.hub import endpoint, hub_library, look_up, patiently
from t2d_runtime.storage.hub_names import HubName

CARD = "README.md"

BY_THE_HUB = (".gitattributes", CARD)
"""Files that a new repository has."""


def push(bundle: Bundle, name: HubName, card: str, *, private: bool = False, overwrite: bool = False) -> str:
    """Upload a whole bundle, made if need be as a `private` repository; returns the commit.

    Files of an older bundle that this one does not have are removed in the same commit. What is on the hub already is
    not sent again.
    Raises BundleError for a bundle that is damaged or not whole, OutputError for a repository that is no bundle unless
    `overwrite`, HubError where the hub refuses, and HubUnreachableError.
    """
    if name.file is not None or name.is_pinned:
        raise OptionError(f"{name}: expected a repository and perhaps a branch to push to: hf://ORG/BUNDLE[@BRANCH]")
    files = _whole(bundle)
    if hub_library().get_token() is None:
        raise HubError(f"{name}: pushing needs a token; run 'hf auth login', or set HF_TOKEN to one that may write")
    api = hub_library().HfApi(library_name="t2d-runtime")
    existing = _existing(name)
    foreign = sorted(set(existing) - set(BY_THE_HUB))
    if foreign and MANIFEST not in existing and not overwrite:
        raise OutputError(f"{name} holds {foreign[0]} and is no bundle; choose another name, or add --overwrite")
    patiently(lambda: api.create_repo(name.repository, private=private or None, exist_ok=True), name)
    if name.revision:
        patiently(lambda: api.create_branch(name.repository, branch=name.revision, exist_ok=True), name)
    library = hub_library()
    sent = {**{file: str(path) for file, path in files.items()}, CARD: card.encode()}
    gone = [file for file in foreign if file not in sent]
    operations = [
        *(library.CommitOperationAdd(path_in_repo=file, path_or_fileobj=content) for file, content in sent.items()),
        *(library.CommitOperationDelete(path_in_repo=file) for file in gone),
    ]
    message = f"{bundle.manifest.model.backbone}, {', '.join(bundle.manifest.precisions)}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes of the hub about the card's optional fields
        try:
            done = patiently(
                lambda: api.create_commit(name.repository, operations, commit_message=message, revision=name.revision),
                name,
            )
        except RuntimeError as error:  # the library wraps what stopped an upload
            raise HubUnreachableError(
                f"{name}: the upload to {endpoint()} was cut off ({error}); push again: what is there is not sent twice"
            ) from error
    commit: str = done.oid
    return commit


def _whole(bundle: Bundle) -> dict[str, Path]:
    """The bundle's files, each checked against the manifest."""
    check_names(bundle.manifest.files, str(bundle.folder))
    try:
        files = {file: bundle.file(file) for file in bundle.manifest.files}
    except BundleNotFoundError as error:
        raise BundleError(f"a bundle is pushed whole: {error}") from error
    return {**files, MANIFEST: bundle.folder / MANIFEST}


def _existing(name: HubName) -> list[str]:
    """Files of the repository as it is; none where it does not exist yet."""
    try:
        return list(look_up(name).files)
    except HubUnreachableError:
        raise
    except HubError:
        return []  # creating it tells whether it is forbidden
