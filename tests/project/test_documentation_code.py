"""The Python blocks of the README and of docs/ run as they stand, in a folder that holds what they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2d_runtime import Segmenter
from tests.streams.clips import pictures, write_clip

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("cluster.md",)
"""Documents whose blocks need an extra that this environment lacks; tests/cluster runs them."""
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if BLOCK.search(path.read_text()) and path.name not in OTHERS
]


@pytest.fixture
def folder(exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds what the blocks name: `bundle` and `models`, `photo.jpg`, `drive.mp4` and `words.safetensors`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").symlink_to(exported_bundle, target_is_directory=True)
    (tmp_path / "models").symlink_to(ROOT / "models", target_is_directory=True)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    write_clip(tmp_path / "drive.mp4", pictures(3))
    Segmenter.open("bundle", backend="onnxruntime").encode_classes(["sky", "sea"]).save("words.safetensors")
    return tmp_path


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # pycocotools
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_blocks_run(document: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "document"}
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, str(document), "exec"), names)
