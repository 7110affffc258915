"""Words as strings. This server's Python backend reads them with NumPy 1 alone, so its Python has that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from t2d_runtime import Segmenter
from tests.triton.client import Client
from tests.triton.server import triton_server

VARIABLE = "T2D_TRITON_NUMPY1"


@pytest.fixture(scope="module")
def old_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    assert VARIABLE in os.environ, f"{VARIABLE} is not set: run 'bash scripts/test triton'"
    python = Path(os.environ[VARIABLE]).absolute()
    with triton_server(repository, tmp_path_factory.mktemp("old_server"), python) as started:
        yield started


@pytest.fixture(params=["http", "grpc"])
def old_client(request: pytest.FixtureRequest, old_server: Any) -> Client:
    return Client(request.param, getattr(old_server, request.param))


def test_words_as_strings(old_client: Client, segmenter: Segmenter, picture: NDArray[np.uint8]) -> None:
    words = ["sky", "grünes Gras", "person", "道"]
    strings = np.array([word.encode() for word in words], object)
    expected = segmenter.segment(picture, words, background=True, threshold=0.4)
    found = old_client.infer({"image": picture, "words": strings}, background=True, threshold=0.4)["label_map"]
    assert np.array_equal(found, expected.label_map)


def test_wrong_strings_are_errors_and_the_server_lives(old_client: Client, picture: NDArray[np.uint8]) -> None:
    wrong = {"blank": [b"sky", b" "], "UTF-8": [b"sky", b"\xff"], "once": [b"sky", b"sky"], "class": []}
    for message, strings in wrong.items():
        with pytest.raises(InferenceServerException, match=message):
            old_client.infer({"image": picture, "words": np.array(strings, object)})
    json = np.frombuffer(b'["sky"]', np.uint8)
    with pytest.raises(InferenceServerException, match="words and words_json; expected either"):
        old_client.infer({"image": picture, "words": np.array([b"sky"], object), "words_json": json})
    assert old_client.infer({"image": picture, "words_json": json})["label_map"].shape == picture.shape[:2]
