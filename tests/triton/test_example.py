"""The example client, as its own process, against the real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import Segmenter
from tests.triton.server import ROOT


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_example(
    server: Any, segmenter: Segmenter, picture: NDArray[np.uint8], tmp_path: Path, protocol: str
) -> None:
    Image.fromarray(picture).save(tmp_path / "photo.png")
    address = ["--protocol", protocol, "--url", getattr(server, protocol)]
    command = [sys.executable, ROOT / "examples" / "triton_client.py", "photo.png", "sky, grass", *address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    share = (segmenter.segment(picture, ["sky", "grass"]).label_map == 0).mean()
    assert done.stdout.splitlines()[0].split() == [f"{share:.1%}", "sky"]
    with Image.open(tmp_path / "labelled.png") as labelled:
        assert labelled.size == (picture.shape[1], picture.shape[0])
