"""A Hugging Face hub: looks repositories up, and tells in one line why it cannot.

HF_ENDPOINT names another hub than huggingface.co, HF_TOKEN or `hf auth login` the user's token, and HF_HUB_OFFLINE
forbids the network, as everywhere with `huggingface_hub`. That library is imported at the first call.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from t2d_runtime.errors import HubError, HubUnreachableError
from t2d_runtime.storage.hub_names import COMMIT, HubName

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 5
"""Tries of a request that fails for a reason that may pass."""

FIRST_WAIT_S = 1.0
"""Wait before the second try; it doubles each time."""

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A name in Git, or a sha256. Both become names of files, so that nothing else may stand there."""

LONGEST_WAIT_S = 60.0
"""Longest wait that a hub may ask for with Retry-After. Beyond it the user is told instead."""

PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses that may pass: too many requests, and a hub in trouble."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at a commit."""

    repository: str
    commit: str
    path: str
    size_bytes: int
    sha256: str | None
    """None for a small file, which Git holds itself."""
    git_sha1: str | None

    @property
    def content_name(self) -> str:
        """A name of the content alone, as the hub's caches use it: its sha256, or its name in Git."""
        return self.sha256 or self.git_sha1 or hashlib.sha256(str(self).encode()).hexdigest()

    def __str__(self) -> str:
        return str(HubName(self.repository, self.commit, self.path))


@dataclass(frozen=True)
class Snapshot:
    """A repository at a commit."""

    repository: str
    commit: str
    files: Mapping[str, RemoteFile]


def look_up(name: HubName) -> Snapshot:
    """The commit of a revision, and its files.

    Raises HubUnreachableError, and HubError where the hub refuses or answers as no hub does.
    """
    api = hub_library().HfApi(library_name="t2d-runtime")
    info = patiently(lambda: api.model_info(name.repository, revision=name.revision, files_metadata=True), name)
    if not info.sha or info.siblings is None:
        raise HubError(f"{name}: the hub at {endpoint()} names no commit; is HF_ENDPOINT the address of a hub?")
    _check_digest(info.sha, COMMIT, name, "the commit")
    files = {
        item.rfilename: RemoteFile(
            repository=name.repository,
            commit=info.sha,
            path=item.rfilename,
            size_bytes=item.size or 0,
            sha256=item.lfs.sha256 if item.lfs else None,
            git_sha1=item.blob_id,
        )
        for item in info.siblings
    }
    for path, file in files.items():
        for digest in (file.sha256, file.git_sha1):
            if digest is not None:
                _check_digest(digest, _DIGEST, name, f"a digest of {path!r:.100}")
    return Snapshot(name.repository, info.sha, files)


def _check_digest(digest: str, form: re.Pattern[str], name: HubName, what: str) -> None:
    if form.fullmatch(digest) is None:
        raise HubError(
            f"{name}: the hub at {endpoint()} names {digest!r:.100} as {what}, expected a "
            "number of hexadecimal digits; nothing was taken from it: is HF_ENDPOINT the address of a hub?"
        )


def commit_of(name: HubName, recall: Callable[[], object]) -> str | None:
    """The commit that a cache holds for a name: the name's own, else the recalled one; None where that is no commit."""
    commit = name.revision if name.is_pinned else recall()
    return commit if isinstance(commit, str) and COMMIT.fullmatch(commit) else None


def look_up_or(name: HubName, kept: T | None, told: object) -> Snapshot | T:
    """The snapshot as `look_up` gives it, or what is `kept` in a cache where the hub is out of reach.

    The log then names it as `told`. Raises HubUnreachableError where nothing is kept, and HubError.
    """
    try:
        return look_up(name)
    except HubUnreachableError:
        if kept is None:
            raise
        tell = logger.info if is_offline() else logger.warning
        tell("%s: the hub cannot be asked for the newest; using %s from the cache", name, told)
        return kept


def endpoint() -> str:
    """Address of the hub."""
    address: str = hub_library().constants.ENDPOINT
    return address


def is_offline() -> bool:
    """True where HF_HUB_OFFLINE forbids the network."""
    return bool(hub_library().constants.HF_HUB_OFFLINE)


def hub_library() -> Any:
    """The module `huggingface_hub`."""
    import huggingface_hub.constants
    import huggingface_hub.utils

    return huggingface_hub


def patiently(call: Callable[[], T], name: object) -> T:
    """The result of a request, tried again while the hub is in trouble. Raises HubUnreachableError and HubError."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except OfflineModeIsEnabled as error:
            raise HubUnreachableError(
                f"{name} is not in the cache, and HF_HUB_OFFLINE forbids the network; unset it once to download"
            ) from error
        except HfHubHTTPError as error:
            response = error.response
            if response.status_code not in PASSING or attempt == ATTEMPTS:
                raise refusal(response, name) from error
            wait(attempt, response, name)
        except (httpx2.TimeoutException, httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError) as error:
            if attempt == ATTEMPTS:
                raise unreachable(name, error) from error
            wait(attempt, None, name)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError) as error:
            raise unreachable(name, error) from error
    raise HubError(f"{name}: {ATTEMPTS} tries failed")


def wait(attempt: int, response: httpx2.Response | None, name: object) -> None:
    """Wait before the next try, as long as the hub asks for. Raises HubError where that is too long."""
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    seconds = float(asked) if asked.isdigit() else FIRST_WAIT_S * 2 ** (attempt - 1)
    if seconds > LONGEST_WAIT_S:
        raise HubError(f"{name}: the hub asks to wait {seconds:.0f} seconds (too many requests); try again then")
    logger.info("%s: the hub is in trouble; trying again in %.3g s", name, seconds)
    time.sleep(seconds)


def unreachable(name: object, error: Exception) -> HubUnreachableError:
    """The error for a hub that gives no answer, or none of a hub."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return HubUnreachableError(
        f"{name} is not in the cache, and the hub at {endpoint()} cannot be reached ({reason:.200}); connect once, or "
        "download it elsewhere and give its path"
    )


def refusal(response: httpx2.Response, name: object) -> HubError:
    """The error for an answer that is no success: what is wrong, and what to do."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    repository = getattr(name, "repository", name)
    known = hub_library().get_token() is not None
    if code == "GatedRepo":
        page = f"{endpoint()}/{repository}"
        then = (
            "with the account of this token, and wait until it is granted"
            if known
            else f"then set HF_TOKEN to a token of that account ({endpoint()}/settings/tokens), or run 'hf auth login'"
        )
        return HubError(f"{name}: its authors ask for consent first; accept their conditions at {page}, {then}")
    if code == "RevisionNotFound":
        return HubError(f"{name}: the repository has no such revision; expected a branch, a tag or a commit of it")
    if code == "EntryNotFound":
        return HubError(f"{name}: the repository has no such file; see {endpoint()}/{repository}/tree/main")
    if status in (401, 404) or code == "RepoNotFound":
        token = "this token may not read it" if known else "it is private: set HF_TOKEN to a token that may read it"
        return HubError(f"{name}: the hub at {endpoint()} has no such repository, or {token}")
    if status == 403:
        return HubError(f"{name}: the hub forbids it; is the token in HF_TOKEN meant for this repository?")
    if status == 429:
        return HubError(f"{name}: the hub says too many requests; try again later, or with a token in HF_TOKEN")
    return HubError(f"{name}: the hub at {endpoint()} answers {status}; try again later")
