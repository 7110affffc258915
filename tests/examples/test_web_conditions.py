"""examples/web under other conditions: a camera, no network, any static host, and browsers that lack something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.examples.conftest import PAGE
from tests.examples.pages import KEEP_RESULTS, LAST_RESULT, TIMEOUT_MS, static_host

Serve = Callable[..., AbstractContextManager[str]]

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def address(node: str, serve: Serve, fused_bundle: Path) -> Iterator[str]:
    with serve(fused_bundle) as url:
        yield url


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor who was never here before."""
    context = browser.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script(KEEP_RESULTS)
    yield context
    context.close()


def opened(context: BrowserContext, url: str, before: str = "") -> Page:
    page = context.new_page()
    if before:
        page.add_init_script(before)
    page.goto(url)
    return page


def last_result(page: Page, **options: Any) -> dict[str, Any]:
    """The page's last segmentation, once it is one with these options."""
    result: dict[str, Any] = page.wait_for_function(LAST_RESULT, arg=options).json_value()
    return result


def test_the_camera_is_live(context: BrowserContext, address: str) -> None:
    """Masks come frame by frame, words change meanwhile, and the last frame stays as the picture."""
    page = opened(context, address)
    expect(page.locator("#count")).to_have_text("8 of 8")
    page.click("#camera")
    page.wait_for_function("() => window.results.length > 3")
    expect(page.locator("#status")).to_have_text(re.compile(r"The camera is on: [\d.]+ frames a second\."))
    expect(page.locator("#facts")).to_contain_text("the camera, 640 × 480 pixels")
    assert page.evaluate("window.results.every(({ times }) => times.image > 0)")
    page.fill("#typed", "sea, boat")
    page.wait_for_function("() => window.results.at(-1).names.join() === 'sea,boat'")
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.get_by_role("button", name="Use the camera")).to_be_visible()
    page.wait_for_function("() => document.querySelector('#video').srcObject === null")
    page.set_checked("#refine", True)
    page.wait_for_function("() => window.results.at(-1).refine")
    number = page.evaluate("window.results.length")
    page.set_checked("#background", True)
    page.wait_for_function("() => window.results.at(-1).background")
    assert page.evaluate("window.results.length") == number + 1, "no frame comes any more"
    last = page.evaluate("(({ width, height, times }) => [width, height, times.image])(window.results.at(-1))")
    assert last == [640, 480, 0]
    colours = page.evaluate(
        """new Set(new Uint32Array(
            document.querySelector("#picture").getContext("2d").getImageData(0, 0, 640, 480).data.buffer)).size"""
    )
    assert colours > 3, "a picture is shown"


def test_pages_without_https_have_no_camera(context: BrowserContext, address: str) -> None:
    lacking = """
        Object.defineProperty(window, "isSecureContext", { value: false });
        Object.defineProperty(Navigator.prototype, "mediaDevices", { value: undefined });
    """
    page = opened(context, address, lacking)
    expect(page.locator("#nocamera")).to_have_text("Browsers give cameras to https pages and to localhost only.")
    expect(page.locator("#camera")).to_be_hidden()


@pytest.mark.parametrize(
    ("query", "before", "message"),
    [
        ("", "delete window.WebAssembly", "this browser has no WebAssembly with SIMD"),
        ("", "WebAssembly.validate = () => false", "this browser has no WebAssembly with SIMD"),
        ("?engine=webgpu", "", "this browser has no WebGPU adapter; leave ?engine=webgpu out"),
        ("?engine=abacus", "", "engine is abacus, expected webgpu or wasm"),
    ],
)
def test_what_a_browser_lacks_is_said(
    context: BrowserContext, address: str, query: str, before: str, message: str
) -> None:
    page = opened(context, address + query, before)
    expect(page.locator("#error")).to_contain_text(message)
    expect(page.locator("#loading")).to_be_hidden()


def test_a_lack_of_memory_is_said(browser: Browser, address: str, picture: Path) -> None:
    context = browser.new_context(service_workers="block")  # whose files could not be replaced
    page = context.new_page()
    replaced = "export const workingSize = () => { throw new RangeError('Array buffer allocation failed'); };"
    replaced += "export const resize = () => {}, pixelValues = () => {};"
    page.route("**/preprocess.js", lambda route: route.fulfill(content_type="text/javascript", body=replaced))
    page.goto(address)
    page.set_input_files("#file", picture)
    expect(page.locator("#error")).to_have_text(
        "this page has not enough memory (Array buffer allocation failed); close other pages, or take a smaller model "
        "or ?precision=int8"
    )
    context.close()


def wait_until_kept(page: Page, *addresses: str) -> None:
    """Wait for the service worker to have these files."""
    for address in addresses:
        page.evaluate(
            """async (address) => {
                while (!(await caches.match(address))) await new Promise((resolve) => setTimeout(resolve, 50));
            }""",
            address,
        )


def test_any_static_host_serves_it_and_then_none(
    node: str,
    context: BrowserContext,
    fused_bundle: Path,
    vocabulary: Path,
    picture: Path,
    check_labels: Callable[..., None],
    tmp_path: Path,
) -> None:
    """One thread at the first visit, more at the second; the third is without a network."""
    command = [sys.executable, PAGE / "serve.py", fused_bundle, vocabulary, "--write", tmp_path / "site"]
    subprocess.run(command, check=True, capture_output=True)
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 2
    assert "exists already, expected a new folder" in again.stderr
    with static_host(tmp_path) as url:
        page = opened(context, url)
        expect(page.locator("#count")).to_have_text("8 of 8")
        assert not page.evaluate("crossOriginIsolated")
        expect(page.locator("#facts")).to_contain_text("1: this page is not isolated from other sites")
        wait_until_kept(page, "vocabulary.safetensors", "onnxruntime/ort-wasm-simd-threaded.wasm", "t2d/mask-worker.js")
        page.goto(url)
        expect(page.locator("#count")).to_have_text("8 of 8")
        assert page.evaluate("crossOriginIsolated")
    page.goto(url)
    page.set_input_files("#file", picture)
    check_labels(np.array(last_result(page)["labels"]).reshape(224, 224), background=False, refine=False)
    assert page.locator("#error").is_hidden()


def test_a_changed_file_takes_the_place_of_a_kept_one(
    node: str, context: BrowserContext, fused_bundle: Path, vocabulary: Path, tmp_path: Path
) -> None:
    command = [sys.executable, PAGE / "serve.py", fused_bundle, vocabulary, "--write", tmp_path / "site"]
    subprocess.run(command, check=True, capture_output=True)
    index = tmp_path / "site" / "index.html"
    with static_host(tmp_path) as url:
        page = opened(context, url)
        wait_until_kept(page, url)
        date = index.stat().st_mtime_ns
        index.write_text(index.read_text().replace("<h1>Segment a picture", "<h1>Label a picture"))
        os.utime(index, ns=(date, date))  # it may change within a second, which servers compare dates by
        page.goto(url)
        expect(page.locator("h1")).to_have_text("Label a picture by words")
        note, ask = index.with_name("note.txt"), "async (cache) => (await fetch('note.txt', { cache })).text()"
        for content in ("one", "two"):  # a request that wants no cached file gets none
            note.write_text(content)
            os.utime(note, ns=(date, date))
            assert page.evaluate(ask, "no-store") == content
            page.evaluate(ask, "default")  # now it is cached
    page.goto(url)
    expect(page.locator("h1")).to_have_text("Label a picture by words")
