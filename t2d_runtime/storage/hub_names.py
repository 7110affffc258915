"""Names of what is on a hub: hf://ORG/REPO, at a revision, and perhaps a file in it."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from os import PathLike
from typing import TypeGuard

from t2d_runtime.errors import OptionError
from t2d_runtime.storage.safe_names import unsafe

SCHEME = "hf://"

FORM = "hf://ORG/REPO[@REVISION][/FILE]"

COMMIT = re.compile(r"[0-9a-f]{40}")

_PART = r"[A-Za-z0-9](?:[\w.-]*[\w-])?"
_NAME = re.compile(
    rf"hf://(?P<repository>{_PART}/{_PART})"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?"
    r"(?:/(?P<file>.+))?",
    re.ASCII,
)

_ELSEWHERE = re.compile(r"(?P<scheme>[a-z][a-z0-9+.]+):/+", re.IGNORECASE)
"""The beginning of an address of another kind. A Windows drive has one letter."""


@dataclass(frozen=True)
class HubName:
    """A repository of a hub. `revision` is a branch, a tag or a commit; None is the newest of the main branch."""

    repository: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Read FORM. Raises OptionError for anything else."""
        match = _NAME.fullmatch(text)
        if match is None or "--" in match["repository"] or ".." in match["repository"]:
            raise OptionError(f"{text!r:.200} is no name on a hub: expected {FORM}")
        if match["file"] is not None and (reason := unsafe(match["file"])) is not None:
            raise OptionError(f"{text!r:.200}: the file's name {reason}; expected {FORM}")
        revision = urllib.parse.unquote(match["revision"]) if match["revision"] else None
        # Caches keep a revision under its name. Git takes none of these either.
        if revision is not None and (".." in revision or "\\" in revision or not revision.isprintable()):
            raise OptionError(f"{text!r:.200}: no revision has such a name; expected {FORM}")
        return cls(match["repository"], revision, match["file"])

    @property
    def is_pinned(self) -> bool:
        """True where the revision is a whole commit, whose files never change."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}{f'/{self.file}' if self.file else ''}"


def is_hub_name(name: object) -> TypeGuard[str]:
    """True where a name is one of the hub's."""
    return isinstance(name, str) and name.startswith(SCHEME)


def refuse_other_addresses(name: str | PathLike[str]) -> None:
    """Raise OptionError for an address that is neither a path nor the hub's, such as https:// or s3://."""
    match = _ELSEWHERE.match(name) if isinstance(name, str) else None
    if match is not None and not is_hub_name(name):
        raise OptionError(
            f"{name}: {match['scheme']}:// is not read here; expected a folder or {FORM}: download it to a folder first"
        )
