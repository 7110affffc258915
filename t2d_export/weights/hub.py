"""Downloads published weights from the Hugging Face hub at a pinned revision, and reads them from its cache later."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from t2d_runtime.errors import WeightsNotFoundError


@dataclass(frozen=True)
class HubFile:
    """One file of a hub repository at a commit."""

    repository: str
    revision: str
    filename: str

    def __str__(self) -> str:
        return f"{self.repository}/{self.filename}@{self.revision[:12]}"


def download(file: HubFile) -> Path:
    """Path of the file in the hub's cache. It is downloaded, with a progress bar, if it is not there yet.

    Raises WeightsNotFoundError where it is not cached and the hub cannot be reached or does not have it.
    """
    # The hub's retries print long warnings; the error below gives their outcome.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        path = huggingface_hub.hf_hub_download(file.repository, file.filename, revision=file.revision)
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsNotFoundError(
            f"{file} is not in the hub's cache and cannot be downloaded ({type(error).__name__}); connect once, or "
            "download it elsewhere and give its path"
        ) from error
    return Path(path)
