"""The page of a live source in a headless browser: a video that is played, and words that change as they are typed."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.examples.pages import TIMEOUT_MS
from training.drawing.scenes import draw_scene

KEY = "0123456789abcdef"

SIDE = 224


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn scene that stands still for two seconds."""
    path: Path = tmp_path_factory.mktemp("clips") / "scene.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_scene(seed=2024, index=1).image, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.add_init_script('window.frames_seen = 0; document.addEventListener("frame", () => window.frames_seen++)')
    yield context
    context.close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    (tmp_path / "keys").write_text(KEY)
    return tmp_path / "keys"


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(address)
    return page


def info_of(address: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{address}live/info", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request) as answer:
        info: dict[str, Any] = json.load(answer)
    return info


def test_a_live_source_is_watched_and_its_words_change(
    context: BrowserContext, served: Callable[..., Any], clip: Path, key_file: Path
) -> None:
    options = ("--source", str(clip), "--classes", "sky,sea", "--key-file", str(key_file))
    with served(*options) as address:
        page = opened(context, address)
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="a live source").click()
        page.wait_for_function("() => window.frames_seen > 3")
        expect(page.locator("h1")).to_have_text("scene.mp4, segmented by words")
        expect(page.locator("#status")).to_have_text("Live.")
        assert page.input_value("#typed") == "sky\nsea"
        assert page.evaluate("[picture.width, picture.height]") == [SIDE, SIDE]
        shown = page.evaluate(PIXELS)

        page.fill("#typed", "")
        page.keyboard.type("tree; wood, person")
        page.wait_for_function("() => !/sky|sea/.test(document.querySelector('#legend').innerText)")
        page.wait_for_function("(before) => window.frames_seen > before + 3", arg=page.evaluate("window.frames_seen"))
        assert np.abs(np.array(page.evaluate(PIXELS)) - shown).mean() > 5  # other colours
        expect(page.locator("#canvases")).to_have_attribute("aria-label", re.compile("masks of (tree|person)"))
        info = info_of(address)
        assert info["words"]["classes"] == {"tree": ["tree", "wood"], "person": ["person"]}
        assert info["viewers"] == 1

        page.set_checked("#background", True)
        page.focus("#threshold")
        page.keyboard.press("End")
        page.wait_for_function("() => document.querySelector('#legend').innerText.includes('background')")
        words = info_of(address)["words"]
        assert (words["background"], words["threshold"]) == (True, 0.73)


def test_viewers_share_words_and_errors_are_told(
    context: BrowserContext, served: Callable[..., Any], clip: Path
) -> None:
    with served("--source", str(clip), "--classes", "sky,sea") as address:
        one, other = opened(context, f"{address}watch"), opened(context, f"{address}watch")
        for page in (one, other):
            page.wait_for_function("() => window.frames_seen > 0")
        one.fill("#typed", "boat @0.5")
        one.set_checked("#background", True)
        other.wait_for_function("() => document.querySelector('#typed').value === 'boat @0.5'")
        assert other.is_checked("#background")
        one.fill("#typed", "boat, Boat")
        expect(one.locator("#unknown")).to_contain_text("are the same; give each one once")
        expect(other.locator("#unknown")).to_be_hidden()
        one.fill("#typed", "boat, sea")
        expect(one.locator("#unknown")).to_be_hidden()


def test_a_key_is_asked_for(context: BrowserContext, served: Callable[..., Any], clip: Path, key_file: Path) -> None:
    with served("--source", str(clip), "--classes", "sky", "--key-file", str(key_file)) as address:
        requested: list[str] = []
        page = opened(context, f"{address}watch")
        page.on("request", lambda request: requested.append(request.url))
        expect(page.locator("#error")).to_contain_text("this server needs its key")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_function("() => window.frames_seen > 1")
        expect(page.locator("#access")).to_be_hidden()
        assert requested
        assert all(KEY not in url for url in requested)
        assert context.cookies() == []


PIXELS = """() => [...picture.getContext("2d").getImageData(0, 0, picture.width, picture.height).data]"""
