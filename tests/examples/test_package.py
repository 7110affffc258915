"""The package `t2d`: types, what `npm pack` makes of it, and its use from Node with words and pictures of one's own."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import Segmenter
from tests.examples.conftest import PAGE

PACKAGE = PAGE / "t2d"
PROGRAM = Path(__file__).with_name("package.mjs")


@pytest.fixture(scope="module")
def packed(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as others install it; packing makes its types, so it fails where they do not fit."""
    folder = tmp_path_factory.mktemp("packed")
    command = ["npm", "pack", "--loglevel=error", "--pack-destination", str(folder)]
    done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder / "package"


def test_what_npm_pack_makes_is_whole(packed: Path) -> None:
    description = json.loads((packed / "package.json").read_text())
    for name, targets in description["exports"].items():
        for target in targets.values() if isinstance(targets, dict) else [targets]:
            assert (packed / target).is_file(), f"{name} is {target}, which is not in the package"
    for module in packed.glob("*.js"):
        assert (packed / "types" / f"{module.stem}.d.ts").is_file()
    assert (packed / "pamr.wasm").read_bytes() == (PACKAGE / "pamr.wasm").read_bytes()
    assert "encodeWords(words: import(" in (packed / "types" / "segmenter.d.ts").read_text()


PROGRAM_WITH_TYPES = """
import { open, InputError, type Segmenter } from "t2d";
import { folder } from "t2d/node.js";

const segmenter: Segmenter = await open(folder("bundle"), { ort: {}, workers: 2 });
const encoding = await segmenter.encodeImage({ pixels: new Uint8Array(12), width: 2, height: 2 });
const words = await segmenter.encodeWords({ sky: ["sky", "clouds"] }, { negatives: ["sea"] });
const { labels, names } = await segmenter.segment(encoding, words, { background: true, refine: true });
const shown: [Uint8Array | Uint16Array, string[]] = [labels, names];
export { InputError, shown };
// @ts-expect-error
await segmenter.segment(encoding, words, { refine: 3 });
"""


def test_programs_have_its_types(packed: Path, node: str, tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "t2d").symlink_to(packed, target_is_directory=True)
    (tmp_path / "program.mts").write_text(PROGRAM_WITH_TYPES)
    compiler = PAGE / "node_modules" / "typescript" / "bin" / "tsc"
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--types", ""]
    done = subprocess.run(
        [node, compiler, *options, "program.mts"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def told(
    packed: Path, node: str, fused_bundle: Path, vocabulary: Path, scene: NDArray[np.uint8], folder: Path
) -> dict[str, Any]:
    (folder / "scene.raw").write_bytes(scene.tobytes())
    command = [node, PROGRAM, packed, fused_bundle, vocabulary, folder / "scene.raw"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_one_encoding_serves_all_words(told: dict[str, Any], segmenter: Segmenter, scene: NDArray[np.uint8]) -> None:
    """With Python's labels, though three calls run at once."""
    assert told["runs"] == 1
    plain = segmenter.encode_classes(["sky", "sea", "sand"])
    grouped = segmenter.encode_classes({"sky": "sky", "thing": ["boat", "person"]}, negatives=["sand"])
    own = segmenter.encode_classes(["tree", "sky"], thresholds={"tree": 0.58})
    expected = [
        segmenter.segment(scene, plain, window="whole"),
        segmenter.segment(scene, grouped, window="whole", refine=True),
        segmenter.segment(scene, own, window="whole", refine=True, background=True, threshold=0.56),
    ]
    for made, result in zip(told["made"], expected, strict=True):
        assert [name.strip().lower() for name in made["names"]] == list(result.class_names)
        assert (np.array(made["labels"]).reshape(224, 224) == result.label_map).mean() > 0.9995


def test_what_cannot_be_used_is_refused(told: dict[str, Any]) -> None:
    assert told["progress"]["loaded"] == told["progress"]["total"] > 1e6
    assert told["refused"] == [
        "expected at least one class name, got none",
        "“sky” and “ SKY” are the same; give each one once",
        "a class is blank, expected a word",
        "words that no vocabulary has need the package @huggingface/tokenizers; install it",
        "class 'thing' has no phrase, expected one or more",
        "“sky” is in two classes, a and b; give it to one",
        "“sky” is a negative and a phrase of class sky; choose one",
        "a threshold is for 'sea', which is not a class",
        "the threshold of 'sky' is 5, expected 0 to 1",
        "the threshold is 2, expected 0 to 1",
        "the thresholds of sky have no effect without background",
        "the picture was encoded with another bundle; encode it again",
        "the picture has 150528 bytes, expected 3 x 3 x 3",
        'bundle is not an address; for a folder in Node.js use folder(path) of "t2d/node.js"',
        "AbortError",
    ]
