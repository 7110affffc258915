"""A written repository, served by a real Triton; clients of both protocols; the same bundle opened here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import Segmenter
from t2d_runtime.serving.triton.repository import RepositorySettings, write_repository
from tests.triton.client import Client
from tests.triton.server import triton_server


@pytest.fixture(scope="session")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime")


@pytest.fixture(scope="session")
def picture() -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))


@pytest.fixture(scope="session")
def repository(exported_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("triton") / "repository"
    write_repository(exported_bundle, output, RepositorySettings("onnxruntime", num_threads=1, instances=2))
    return output


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The server with the NumPy of the tests in its Python backend: NumPy 2."""
    with triton_server(repository, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Any) -> Client:
    return Client(request.param, getattr(server, request.param))
