"""The hub's own cache of weights: shared with others, and never left."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from t2d_export.weights.hub import download
from t2d_runtime.errors import WeightsError, WeightsNotFoundError
from t2d_runtime.storage.hub_names import HubName
from tests.hub.fixtures import hub
from tests.hub.server import LoopbackHub

__all__ = ["hub"]  # a fixture

NAME = "org/model"
WEIGHTS = bytes(range(256)) * 4000


def test_threads_download_one_file_at_once(hub: LoopbackHub) -> None:
    commit = hub.add(NAME, {"model.safetensors": WEIGHTS})
    together = threading.Barrier(3)

    def get(name: str) -> tuple[Path, HubName]:
        together.wait()
        return download(HubName.parse(name))

    with ThreadPoolExecutor(3) as pool:
        ((path, name),) = set(pool.map(get, [f"hf://{NAME}"] * 3))
    assert path.read_bytes() == WEIGHTS
    assert str(name) == f"hf://{NAME}@{commit}/model.safetensors"
    assert hub.sent_bytes == {"model.safetensors": len(WEIGHTS)}


def test_a_reference_that_names_no_commit_is_not_followed(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hf" / "hub" / "models--org--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("../../outside")
    (folder.parent / "outside").mkdir()
    (folder / "snapshots").mkdir()
    (folder.parent / "outside" / "model.safetensors").write_bytes(b"of somebody else")
    assert (folder / "snapshots" / "../../outside/model.safetensors").is_file()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsNotFoundError, match="HF_HUB_OFFLINE forbids the network"):
        download(HubName.parse(f"hf://{NAME}"))


def test_a_file_that_would_leave_the_cache_is_refused(hub: LoopbackHub) -> None:
    hub.add(NAME, {"../../../outside.safetensors": WEIGHTS})
    with pytest.raises(
        WeightsError, match=r"hf://org/model.* names '\.\./.*', which leaves its folder.*nothing was taken"
    ):
        download(HubName.parse(f"hf://{NAME}"))
    assert not hub.sent_bytes
