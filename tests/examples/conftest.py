"""What the tests of the JavaScript examples share: a picture, its words, Node, a browser and the page's server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bundle.files import EXTERNAL_DATA_SUFFIX, MANIFEST, SEGMENTER, record_of
from t2d_runtime.bundle.manifest import sealed
from t2d_runtime.image.reading import ImageLike
from training.drawing.scenes import draw_scene

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NODE_EXAMPLE = ROOT / "examples" / "node"
PAGE = ROOT / "examples" / "web"
VITE_EXAMPLE = ROOT / "examples" / "vite"
BROWSER_FOLDER = ROOT / "build" / "browser"
INSTALL = "run 'bash scripts/javascript'"

MARGIN = 2e-5
"""Labels must agree where the best score leads by more than this: what the project guarantees of every engine."""


def keep_weights_apart(bundle: Path, name: str) -> None:
    """Move the weights of a graph into a file beside it, as large models have them."""
    graph = bundle / name
    data = graph.with_name(f"{name}{EXTERNAL_DATA_SUFFIX}")
    onnx.save_model(onnx.load(graph), graph, save_as_external_data=True, location=data.name)
    manifest = json.loads((bundle / MANIFEST).read_text())
    for path in (graph, data):
        manifest["files"][path.name] = asdict(record_of(path))
    (bundle / MANIFEST).write_text(sealed(manifest))


@pytest.fixture(scope="session")
def fused_bundle(exported_bundle: Path) -> Path:
    if not (exported_bundle / SEGMENTER).is_file():
        pytest.fail(f"{exported_bundle} has no {SEGMENTER}; name a bundle exported with --fused")
    return exported_bundle


@pytest.fixture(scope="session")
def segmenter(fused_bundle: Path) -> Segmenter:
    return Segmenter.open(fused_bundle, backend="onnxruntime")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="session")
def scene() -> NDArray[np.uint8]:
    """A drawn scene (224,224,3), as large as the model's window: nothing is resized."""
    return draw_scene(seed=2024, index=1).image


@pytest.fixture(scope="session")
def picture(scene: NDArray[np.uint8], folder: Path) -> Path:
    Image.fromarray(scene).save(folder / "scene.png")
    return folder / "scene.png"


@pytest.fixture(scope="session")
def words(segmenter: Segmenter) -> ClassEmbeddings:
    return segmenter.encode_classes(["sky", "sea", "sand", "boat", "person", "umbrella", "tree", "balloon"])


@pytest.fixture(scope="session")
def vocabulary(words: ClassEmbeddings, folder: Path) -> Path:
    words.save(folder / "words.safetensors")
    return folder / "words.safetensors"


@pytest.fixture(scope="session")
def check_labels(segmenter: Segmenter, scene: NDArray[np.uint8], words: ClassEmbeddings) -> Callable[..., None]:
    """Asserts that labels of a picture are the Python runtime's wherever its best score leads by the margin."""

    def check(labels: NDArray[Any], background: bool, refine: bool, picture: ImageLike = scene) -> None:
        result = segmenter.segment(
            picture, words, background=background, refine=refine, window="whole", keep_scores=True
        )
        assert result.scores is not None
        rivals = list(result.scores)
        if background:
            rivals.append(np.full_like(rivals[0], result.settings.threshold))
        second, best = np.sort(rivals, axis=0)[-2:]
        clear = best - second > MARGIN
        assert clear.mean() > 0.99, "the margin leaves nearly every pixel to compare"
        assert labels.shape == result.label_map.shape
        np.testing.assert_array_equal(labels[clear], result.label_map[clear])

    return check


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js 20.19 or newer, with the packages of the examples."""
    program = shutil.which("node")
    if program is None:
        pytest.fail("Node.js is missing: install version 20.19 or newer from your system's packages or nodejs.org")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < (20, 19):
        pytest.fail(f"Node.js is {version}, expected 20.19 or newer")
    for package in (NODE_EXAMPLE, PAGE, VITE_EXAMPLE, HERE):
        if not (package / "node_modules").is_dir():
            pytest.fail(f"the packages of {package.relative_to(ROOT)} are not installed; {INSTALL}")
    return program


@pytest.fixture(scope="session")
def browser(node: str) -> Iterator[Browser]:
    """The Chromium of T2D_CHROMIUM, or the one that the tests' own package carries."""
    environment, program = dict(os.environ), os.environ.get("T2D_CHROMIUM")
    if program is None:
        unpacked = _unpacked_browser(node)
        program = str(unpacked / "chromium")
        environment |= {
            "LD_LIBRARY_PATH": str(unpacked / "al2023" / "lib"),
            "FONTCONFIG_PATH": str(unpacked / "fonts"),
        }
    # Its sandbox needs rights that containers and root do not have; it loads nothing but the project's own page.
    # Its camera is a drawn one, which pages may use unasked.
    options = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, env=environment, args=options)
        yield launched
        launched.close()


def _unpacked_browser(node: str) -> Path:
    package = json.loads((HERE / "node_modules" / "@sparticuz" / "chromium" / "package.json").read_text())
    target = BROWSER_FOLDER / package["version"]
    if not target.is_dir():
        shutil.rmtree(BROWSER_FOLDER, ignore_errors=True)  # another version's, or half of one: 200 MB
        unpacking = subprocess.run(
            [node, str(HERE / "unpack-chromium.js"), str(target)], capture_output=True, text=True, check=False
        )
        if unpacking.returncode:
            pytest.fail(f"no browser: {unpacking.stderr}\nname an installed Chromium or Chrome in T2D_CHROMIUM")
    return target


Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serve(vocabulary: Path) -> Serve:
    """Serves the page with a bundle; gives its address."""

    @contextmanager
    def serve_page(bundle: Path, *options: str) -> Iterator[str]:
        command = [sys.executable, str(PAGE / "serve.py"), str(bundle), str(vocabulary), "--port", "0", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                yield server.stdout.readline().strip()
            finally:
                server.terminate()

    return serve_page


@pytest.fixture(scope="session")
def served(fused_bundle: Path) -> Serve:
    """Runs `t2d serve`; gives its address."""

    @contextmanager
    def serve_bundle(*options: str) -> Iterator[str]:
        command = [sys.executable, "-m", "t2d_runtime", "serve", str(fused_bundle), "--port", "0", *options]
        with subprocess.Popen(
            [*command, "--backend", "onnxruntime"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as server:
            assert server.stdout is not None
            try:
                yield server.stdout.readline().split(" ")[0]
            finally:
                server.terminate()

    return serve_bundle
