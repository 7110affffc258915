"""The page of `t2d serve` in a headless browser, by typing: the server's masks, and messages where words are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from t2d_runtime import Segmenter
from tests.examples.pages import KEEP_RESULTS, LAST_RESULT, TIMEOUT_MS

KEY = "0123456789abcdef"


expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(accept_downloads=True)
    context.add_init_script(KEEP_RESULTS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, served: Callable[..., Any]) -> Iterator[Page]:
    """The page of a server; what it logs as an error fails the test."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "status of" not in message.text:  # refusals are told in the page
            complaints.append(message.text)

    with served() as address:
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        expect(page.locator("#status")).to_have_text("Ready for a picture.")
        yield page
        page.close()
    assert complaints == []


def last_result(page: Page, **options: Any) -> dict[str, Any]:
    """The page's last segmentation, once it is one with these options."""
    result: dict[str, Any] = page.wait_for_function(LAST_RESULT, arg=options).json_value()
    return result


def labels_of(result: dict[str, Any]) -> NDArray[np.intp]:
    return np.array(result["labels"]).reshape(result["height"], result["width"])


def test_masks_change_as_words_are_typed(
    page: Page, segmenter: Segmenter, scene: NDArray[np.uint8], picture: Path
) -> None:
    page.set_input_files("#file", picture)
    expect(page.locator("#status")).to_have_text("Type a word to look for.")
    page.focus("#typed")
    page.keyboard.type("sky, sea")
    result = last_result(page, names=["sky", "sea"])
    np.testing.assert_array_equal(labels_of(result), segmenter.segment(scene, ["sky", "sea"]).label_map)
    page.keyboard.press("Enter")
    page.keyboard.type("person; man; woman")
    classes: dict[str, list[str]] = {"sky": ["sky"], "sea": ["sea"], "person": ["person", "man", "woman"]}
    result = last_result(page, names=list(classes))
    page.wait_for_function("() => window.results.at(-1).names.at(-1) === 'person'")
    page.wait_for_timeout(300)
    result = last_result(page, names=list(classes))
    np.testing.assert_array_equal(labels_of(result), segmenter.segment(scene, classes).label_map)
    page.keyboard.press("Enter")
    page.keyboard.type("- sand")
    last_result(page, names=["background", *classes])
    page.wait_for_timeout(300)
    result = last_result(page, names=["background", *classes])
    encoded = segmenter.encode_classes(classes, negatives=["sand"])
    np.testing.assert_array_equal(labels_of(result), segmenter.segment(scene, encoded).label_map)
    entries = page.locator("#legend li").all_inner_texts()
    assert {entry.split("\n")[0] for entry in entries} <= {"background", *classes}


def test_options_are_live(page: Page, segmenter: Segmenter, scene: NDArray[np.uint8], picture: Path) -> None:
    page.set_input_files("#file", picture)
    page.fill("#typed", "sky, sea, tree")
    page.set_checked("#background", True)
    page.set_checked("#refine", True)
    page.focus("#threshold")
    page.keyboard.press("End")
    result = last_result(page, background=True, refine=True, threshold=0.73)
    expected = segmenter.segment(scene, ["sky", "sea", "tree"], background=True, refine=True, threshold=0.73)
    np.testing.assert_array_equal(labels_of(result), expected.label_map)


def test_wrong_words_are_told_beside_them(page: Page, picture: Path) -> None:
    page.set_input_files("#file", picture)
    page.fill("#typed", "sky, Sky")
    unknown = page.locator("#unknown")
    expect(unknown).to_have_text(re.compile("class names 'sky' and 'Sky' are the same; give each one once"))
    assert page.get_attribute("#typed", "aria-invalid") == "true"
    page.fill("#typed", "sky, sea")
    last_result(page, names=["sky", "sea"])
    expect(unknown).to_be_hidden()


def test_a_threshold_that_is_no_number_is_told_once_it_is_more_than_begun(page: Page, picture: Path) -> None:
    page.set_input_files("#file", picture)
    unknown = page.locator("#unknown")
    for wrong in ("1.5", "-1", "half"):
        page.fill("#typed", f"sky @{wrong}, sea")
        expect(unknown).to_have_text(f"the threshold is “{wrong}”, expected a number from 0 to 1, such as 0.57")
    for begun in ("", "0."):
        page.fill("#typed", f"sky @{begun}, sea")
        last_result(page, names=["sky", "sea"])
        expect(unknown).to_be_hidden()


def test_the_pixel_under_the_pointer_is_named(page: Page, picture: Path) -> None:
    page.set_input_files("#file", picture)
    page.fill("#typed", "sky, sea")
    result = last_result(page, names=["sky", "sea"])
    box = page.locator("#masks").bounding_box()
    assert box is not None
    scale = min(box["width"], box["height"]) / 224
    left, top = (box[side] + (box[length] - 224 * scale) / 2 for side, length in (("x", "width"), ("y", "height")))
    for row, column in ((3, 3), (220, 100), (120, 200)):
        page.mouse.move(left + scale * (column + 0.5), top + scale * (row + 0.5))
        expect(page.locator("#named")).to_have_text(result["names"][labels_of(result)[row, column]])
    page.mouse.move(0, 0)
    expect(page.locator("#named")).to_be_hidden()


def test_results_are_saved(page: Page, picture: Path, tmp_path: Path) -> None:
    page.set_input_files("#file", picture)
    page.fill("#typed", "sky, sea")
    result = last_result(page, names=["sky", "sea"])
    for button, name in (("Save labels", "labels.png"), ("Save picture with masks", "overlay.png")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    with Image.open(tmp_path / "labels.png") as labels, Image.open(tmp_path / "overlay.png") as overlay:
        np.testing.assert_array_equal(np.asarray(labels)[..., 0], labels_of(result))
        assert overlay.size == (224, 224)


def test_a_picture_is_pasted(page: Page, picture: Path) -> None:
    page.fill("#typed", "sky, sea")
    page.evaluate(
        """(bytes) => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
            dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }""",
        list(picture.read_bytes()),
    )
    last_result(page, names=["sky", "sea"])
    expect(page.locator("#facts")).to_contain_text("pasted.png, 224 × 224 pixels")


def test_a_large_picture_is_shrunk_and_another_takes_its_place(page: Page, picture: Path, tmp_path: Path) -> None:
    Image.new("RGB", (3000, 2000), "skyblue").save(tmp_path / "large.png")
    page.fill("#typed", "sky, sea")
    page.set_input_files("#file", tmp_path / "large.png")
    page.wait_for_function("() => window.results.at(-1)?.width === 2449 && window.results.at(-1).height === 1632")
    page.evaluate("window.results = []")
    page.set_input_files("#file", picture)
    last_result(page, width=224)
    (tmp_path / "text.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "text.png")
    expect(page.locator("#error")).to_contain_text("text.png cannot be decoded")


def test_a_picture_that_was_dropped_is_sent_again(page: Page, picture: Path) -> None:
    page.fill("#typed", "sky")
    page.set_input_files("#file", picture)
    last_result(page, names=["sky"])
    with page.expect_request(lambda request: request.method == "DELETE"):
        page.evaluate("dispatchEvent(new Event('pagehide'))")
    page.set_input_files("#file", picture)
    page.fill("#typed", "sea")
    last_result(page, names=["sea"])


def test_the_keyboard_alone_is_enough(page: Page, picture: Path) -> None:
    page.fill("#typed", "sky, sea")
    page.set_input_files("#file", picture)
    last_result(page, names=["sky", "sea"])
    page.focus("#file")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    for control in ("camera", "overlay", "labels", "typed", "background", "refine", "opacity"):
        assert control in reached
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input, textarea, button")]
            .filter((control) => !control.labels?.length && !control.textContent.trim())
            .map((control) => control.id)"""
    )
    assert unnamed == []


def test_a_key_is_asked_for(context: BrowserContext, served: Callable[..., Any], picture: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    with served("--key-file", str(tmp_path / "keys")) as address:
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#error")).to_contain_text("this server needs its key")
        page.fill("#key", "a wrong key of this server")
        page.keyboard.press("Enter")
        expect(page.locator("#access")).to_be_visible()
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#access")).to_be_hidden()
        page.fill("#typed", "sky")
        page.set_input_files("#file", picture)
        last_result(page, names=["sky"])
        page.close()


def test_the_addresses_are_described(context: BrowserContext, served: Callable[..., Any]) -> None:
    with served() as address:
        page = context.new_page()
        page.goto(f"{address}docs")
        expect(page.locator("h2").first).to_have_text("POST /segment")
        assert page.locator("h2").count() == 8
        expect(page.locator("main")).to_contain_text(f"curl {address}segment -F image=@photo.jpg")
        page.close()
