"""A running hub, and an empty home for what comes from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from t2d_runtime.storage import hub as client
from tests.hub.server import LoopbackHub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub that this process and those that it starts take for huggingface.co, with empty caches."""
    with LoopbackHub().running() as running:
        connect(running.endpoint, tmp_path, monkeypatch)
        yield running


def connect(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the real client and its children to an address, with caches below `home` and short waits."""
    places = {"HF_HOME": home / "hf", "HF_HUB_CACHE": home / "hf" / "hub", "T2D_CACHE_DIR": home / "t2d"}
    for name, value in {**places, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", *(n for n in os.environ if "_proxy" in n)):
        monkeypatch.delenv(name, raising=False)
    # Read from the environment when the library is imported.
    settings = {"ENDPOINT": endpoint, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    settings |= {name: str(value) for name, value in places.items() if name.startswith("HF_")}
    settings |= {"HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}"}
    settings |= {"HF_TOKEN_PATH": str(home / "hf" / "token")}
    for name, value in settings.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.001)
