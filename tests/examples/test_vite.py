"""examples/vite: the package in a page that a bundler builds, with Python's shares."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, expect

from t2d_runtime import Segmenter
from tests.examples.conftest import VITE_EXAMPLE
from tests.examples.pages import TIMEOUT_MS, static_host


def test_the_built_page_works_on_any_host(
    node: str,
    browser: Browser,
    fused_bundle: Path,
    picture: Path,
    segmenter: Segmenter,
    scene: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    program = VITE_EXAMPLE / "node_modules" / "vite" / "bin" / "vite.js"
    command = [node, program, "build", "--outDir", tmp_path / "site", "--emptyOutDir", "--logLevel", "warn"]
    done = subprocess.run(command, cwd=VITE_EXAMPLE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    shutil.copytree(fused_bundle, tmp_path / "site" / "bundle")
    with static_host(tmp_path) as url:
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(url)
        status = page.locator("#status")
        expect(status).to_have_text("Choose a picture.")
        page.set_input_files("#file", picture)
        expect(status).to_have_text(re.compile(r"^(\w+ [\d.]+ %, ){3}\w+ [\d.]+ %$"))
        found = dict(re.findall(r"(\w+) ([\d.]+) %", status.inner_text()))
        words = Segmenter.open(fused_bundle, backend="onnxruntime", precision="int8").encode_classes(
            ["sky", "sea", "sand", "boat"]
        )
        labels = segmenter.segment(scene, words, refine=True, window="whole").label_map
        for name, count in zip(words.names, np.bincount(labels.ravel(), minlength=4), strict=True):
            assert abs(float(found[name]) - 100 * count / labels.size) < 1, f"{name}: {found}"
        page.fill("#words", "sky, sky")
        page.keyboard.press("Tab")
        expect(status).to_have_text("“sky” and “ sky” are the same; give each one once")
        page.close()
