"""examples/web in a headless browser: the same labels as Python, clear messages, and a page that stays usable."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bundle.files import IMAGE_ENCODER
from t2d_runtime.results.palette import palette
from tests.examples.conftest import PAGE, keep_weights_apart
from tests.examples.pages import KEEP_RESULTS, LAST_RESULT, TIMEOUT_MS

Serve = Callable[..., AbstractContextManager[str]]


expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def address(node: str, serve: Serve, fused_bundle: Path) -> Iterator[str]:
    with serve(fused_bundle) as url:
        yield url


@pytest.fixture(scope="module")
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages that keep their results; what a page logs as an error fails the test, unless it is expected."""
    context = browser.new_context(service_workers="block")
    context.add_init_script(KEEP_RESULTS)

    def open_page(url: str) -> Page:
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(url)
        return page

    yield open_page
    context.close()


@pytest.fixture(scope="module")
def page(new_page: Callable[..., Page], address: str) -> Page:
    """The page with its model loaded, for all tests that leave it usable."""
    page = new_page(address)
    page.complaints = []  # type: ignore[attr-defined]
    page.on("console", lambda message: note(page, message))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))  # type: ignore[attr-defined]
    expect(page.locator("#status")).to_have_text("Ready for a picture.")
    return page


EXPECTED = ("No available adapters.",)
"""What Chromium itself says, of WebGPU."""


def note(page: Page, message: ConsoleMessage) -> None:
    told = message.text in EXPECTED or message.text.startswith("Service Worker registration blocked")
    if message.type in ("error", "warning") and not told:
        page.complaints.append(message.text)  # type: ignore[attr-defined]


def last_result(page: Page, **options: Any) -> dict[str, Any]:
    """The page's last segmentation, once it is one with these options."""
    result: dict[str, Any] = page.wait_for_function(LAST_RESULT, arg=options).json_value()
    return result


def show(page: Page, picture: Path) -> None:
    page.evaluate("window.results = []")
    page.set_input_files("#file", picture)


def labels_of(result: dict[str, Any]) -> NDArray[np.intp]:
    return np.array(result["labels"]).reshape(result["height"], result["width"])


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_labels_are_those_of_python(
    page: Page,
    background: bool,
    refine: bool,
    picture: Path,
    check_labels: Callable[..., None],
    segmenter: Segmenter,
    scene: NDArray[np.uint8],
    words: ClassEmbeddings,
) -> None:
    page.set_checked("#background", background)
    page.set_checked("#refine", refine)
    show(page, picture)
    result = last_result(page, background=background, refine=refine)
    check_labels(labels_of(result), background, refine)
    assert result["names"] == ["background"] * background + list(words.names)
    expect(page.locator("#status")).to_have_text(re.compile(r"Segmented in .+s\."))
    expected = segmenter.segment(scene, words, background=background, refine=refine, window="whole").summary()
    largest = max(expected["labels"], key=lambda label: label["pixels"])
    entry = page.locator("#legend li").first.inner_text()
    assert entry.split("\n") == [largest["name"], f"{100 * largest['share']:.1f} %"]
    assert page.complaints == []  # type: ignore[attr-defined]


def test_engine_threads_and_times_are_told(page: Page, picture: Path) -> None:
    show(page, picture)
    last_result(page)
    facts = page.locator("#facts").inner_text()
    assert re.search(r"Model\ntiny, 7\.\d MB, fp32, loaded in .+s\n", facts)
    assert re.search(r"Engine\nWebAssembly with SIMD: .*WebGPU.* adapter", facts)
    assert re.search(r"Threads\n[1-4]\b", facts)
    assert re.search(r"Times\npicture .*encoded.*, masks in .+s", facts)
    assert page.evaluate("crossOriginIsolated")


def test_masks_and_legend_have_the_colours_of_the_overlay(page: Page, picture: Path) -> None:
    page.set_checked("#background", False)
    page.set_checked("#refine", False)
    page.wait_for_function("() => document.querySelector('#canvases').ariaBusy !== 'true'")  # of the picture before
    show(page, picture)
    labels = labels_of(last_result(page, background=False, refine=False))
    pixels = page.evaluate(
        "Array.from(document.querySelector('#masks').getContext('2d').getImageData(0, 0, 224, 224).data)"
    )
    masks = np.array(pixels, np.uint8).reshape(224, 224, 4)
    inside = np.ones(labels.shape, bool)
    inside[:, 1:] &= labels[:, 1:] == labels[:, :-1]
    inside[1:] &= labels[1:] == labels[:-1]
    np.testing.assert_array_equal(masks[inside][:, :3], palette(8)[labels[inside]])
    assert (masks[~inside] == 255).all()


def test_masks_change_as_words_are_typed(
    page: Page, picture: Path, words: ClassEmbeddings, segmenter: Segmenter, scene: NDArray[np.uint8]
) -> None:
    """Each time with Python's labels, and the picture is not encoded again."""
    show(page, picture)
    last_result(page)
    field = page.locator("#typed")
    typed = field.input_value()
    field.fill("")
    expect(page.locator("#status")).to_have_text("Type a word to look for.")
    expect(page.locator("#legend")).to_be_hidden()
    page.evaluate("window.results = []")
    field.press_sequentially("sky; sea, TREE\n- sand")
    result = last_result(page, names=["background", "sky", "TREE"])
    expected = segmenter.segment(
        scene, segmenter.encode_classes({"sky": ["sky", "sea"], "TREE": "tree"}, negatives=["sand"]), window="whole"
    ).label_map
    assert (labels_of(result) == expected).mean() > 0.999
    assert all(result["times"]["image"] == 0 for result in page.evaluate("window.results"))
    expect(page.locator("#facts")).to_contain_text("picture already encoded, masks in")
    field.fill("tree, Tree")
    unknown = page.locator("#unknown")
    expect(unknown).to_have_text("“tree” and “Tree” are the same; give each one once")
    assert page.get_attribute("#typed", "aria-invalid") == "true"
    field.fill(typed)
    last_result(page, names=list(words.names))
    expect(unknown).to_be_hidden()


def test_words_of_the_vocabulary_are_ticked(page: Page, picture: Path, words: ClassEmbeddings) -> None:
    show(page, picture)
    last_result(page)
    expect(page.locator("#count")).to_have_text("8 of 8")
    page.get_by_role("button", name="None").click()
    expect(page.locator("#status")).to_have_text("Type a word to look for.")
    expect(page.locator("#typed")).to_have_value("")
    page.get_by_role("checkbox", name="tree").check()
    assert last_result(page, names=["tree"])
    page.get_by_role("checkbox", name="sky").check()
    last_result(page, names=["tree", "sky"])
    expect(page.locator("#typed")).to_have_value("tree, sky")
    expect(page.locator("#count")).to_have_text("2 of 8")
    page.get_by_role("checkbox", name="tree").uncheck()
    last_result(page, names=["sky"])
    page.fill("#find", "s")
    assert page.locator("#list label").all_inner_texts() == ["sky", "sea", "sand", "person"]
    page.fill("#find", "")
    page.get_by_role("button", name="All").click()
    last_result(page, names=["sky", *[name for name in words.names if name != "sky"]])
    page.fill("#typed", ", ".join(words.names))


def test_the_threshold_is_live(page: Page, picture: Path) -> None:
    page.set_checked("#background", True)
    show(page, picture)
    low = labels_of(last_result(page, background=True))
    page.focus("#threshold")
    page.keyboard.press("End")
    expect(page.locator("#thresholdValue")).to_have_text("0.73")
    high = labels_of(last_result(page, background=True, threshold=0.73))
    assert (high == 0).mean() > (low == 0).mean()
    page.set_checked("#background", False)
    expect(page.locator("#threshold")).to_be_disabled()


def test_the_keyboard_alone_is_enough(page: Page, picture: Path) -> None:
    show(page, picture)
    last_result(page)
    page.focus("#file")
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
    for control in ("camera", "typed", "all", "none", "find", "sky", "vocabulary", "background", "refine", "opacity"):
        assert control in reached
    page.focus("#refine")
    page.keyboard.press("Space")
    last_result(page, refine=True)
    page.keyboard.press("Space")
    last_result(page, refine=False)


def test_another_picture_is_refused_and_the_next_one_taken(page: Page, picture: Path, tmp_path: Path) -> None:
    error = page.locator("#error")
    for name, content, message in (
        ("empty.png", b"", "empty.png is empty; expected a picture"),
        ("text.png", b"no picture", "text.png cannot be decoded; expected a picture that this browser reads"),
        ("cut.png", picture.read_bytes()[:60], "cut.png cannot be decoded"),
    ):
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        expect(error).to_contain_text(message)
    show(page, picture)
    last_result(page)
    expect(error).to_be_hidden()


def test_another_vocabulary(page: Page, words: ClassEmbeddings, picture: Path, tmp_path: Path) -> None:
    show(page, picture)
    last_result(page)
    path, error = tmp_path / "other.safetensors", page.locator("#error")
    for other, message in (
        (dataclasses.replace(words, digest="0" * 64), "made with another text encoder (digest 000000000000…"),
        (
            dataclasses.replace(words, vectors=np.eye(len(words.names), 100, dtype=np.float32)),
            "vectors have width 100, this bundle's have 192",
        ),
    ):
        other.save(path)
        page.set_input_files("#vocabulary", path)
        expect(error).to_contain_text(message)
    path.write_bytes(b"damaged")
    page.set_input_files("#vocabulary", path)
    expect(error).to_contain_text("other.safetensors is not a vocabulary file")
    expect(page.locator("#count")).to_have_text("8 of 8")
    ClassEmbeddings(("ship", "beach"), words.vectors[[3, 2]], words.digest).save(path)
    page.set_input_files("#vocabulary", path)
    page.wait_for_function("() => window.results.at(-1)?.names.join() === 'ship,beach'")
    expect(error).to_be_hidden()
    words.save(path)
    page.set_input_files("#vocabulary", path)
    expect(page.locator("#count")).to_have_text("8 of 8")


@pytest.mark.parametrize("refine", [False, True])
def test_phrases_negatives_and_thresholds_of_words(
    page: Page,
    refine: bool,
    words: ClassEmbeddings,
    segmenter: Segmenter,
    scene: NDArray[np.uint8],
    picture: Path,
    tmp_path: Path,
) -> None:
    show(page, picture)
    path, classes = tmp_path / "grouped.safetensors", {"ground": ["sand", "sea"], "plant": "tree"}
    grouped = segmenter.encode_classes(classes, negatives=["sky"], thresholds={"plant": 0.585})
    grouped.save(path)
    page.set_input_files("#vocabulary", path)
    page.wait_for_function("() => window.results.at(-1)?.names.join() === 'background,ground,plant'")
    expect(page.locator("#typed")).to_have_value("ground, plant @0.585\n- sky")
    page.set_checked("#refine", refine)
    for background in (True, False):
        page.set_checked("#background", background)
        show(page, picture)
        result = last_result(page, background=True, refine=refine)  # negatives have label 0 in any case
        used = grouped if background else dataclasses.replace(grouped, thresholds={})
        threshold = result["threshold"] if background else None
        expected = segmenter.segment(
            scene, used, background=background, threshold=threshold, refine=refine, window="whole"
        )
        assert len(np.unique(expected.label_map)) > 1
        assert (labels_of(result) == expected.label_map).mean() > 0.999
    page.set_checked("#refine", False)
    words.save(path)
    page.set_input_files("#vocabulary", path)
    expect(page.locator("#count")).to_have_text("8 of 8")


def test_the_smallest_and_a_large_picture(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "green").save(tmp_path / "one.png")
    show(page, tmp_path / "one.png")
    assert labels_of(last_result(page, width=1)).shape == (1, 1)
    Image.new("RGB", (8000, 6000), "skyblue").save(tmp_path / "large.png")
    page.evaluate("window.results = []")
    page.set_input_files("#file", tmp_path / "large.png")
    page.wait_for_function("() => window.results.at(-1)?.width === 2309")
    expect(page.locator("#facts")).to_contain_text("8000 × 6000 pixels, shown and segmented at 2309 × 1732 pixels")


def test_a_picture_that_replaces_another_meanwhile(
    new_page: Callable[..., Page], address: str, picture: Path, tmp_path: Path
) -> None:
    """The first one's masks are not laid over it. Each segmentation takes a second here."""
    slow = "async segment(given) { await new Promise((done) => setTimeout(done, 1000)); return this.now(given); },"
    worker = (PAGE / "worker.js").read_text().replace("async segment(", f"{slow}\n  async now(")
    page = new_page("about:blank")
    headers = {"Content-Type": "text/javascript", "Cross-Origin-Embedder-Policy": "require-corp"}
    page.route("**/worker.js", lambda route: route.fulfill(headers=headers, body=worker))
    page.goto(address)
    expect(page.locator("#count")).to_have_text("8 of 8")
    Image.new("RGB", (100, 50), "green").save(tmp_path / "next.png")
    show(page, picture)
    expect(page.locator("#status")).to_have_text("Segmenting …")
    page.set_input_files("#file", tmp_path / "next.png")
    last_result(page, width=100)
    sizes = {(result["width"], result["height"]) for result in page.evaluate("window.results")}
    assert sizes == {(100, 50)}
    page.close()


def test_words_that_the_vocabulary_lacks(
    browser: Browser, address: str, picture: Path, segmenter: Segmenter, scene: NDArray[np.uint8]
) -> None:
    """They load the text encoder, which the visitor may give up; the page tells how it read them."""
    context = browser.new_context(service_workers="block")
    context.add_init_script(KEEP_RESULTS)
    page = context.new_page()
    held: list[Route] = []
    page.route("**/text_encoder.onnx", lambda route: held.append(route))
    page.goto(address)
    expect(page.locator("#count")).to_have_text("8 of 8")
    page.set_input_files("#file", picture)
    last_result(page)
    expect(page.locator("#encoder")).to_be_hidden()
    page.fill("#typed", "sky, wooden fence")
    expect(page.locator("#encoder")).to_be_visible()
    expect(page.locator("#encoderBytes")).to_have_text(re.compile(r"^1\.7 of \d+\.\d MB$"))
    page.get_by_role("button", name="Cancel").nth(0).click()
    expect(page.locator("#unknown")).to_contain_text("the text encoder is not loaded; load it below")
    expect(page.locator("#encoder")).to_be_hidden()
    page.fill("#typed", "sky, sand")
    last_result(page, names=["sky", "sand"])
    expect(page.locator("#unknown")).to_be_hidden()
    page.fill("#typed", "sky; sea &amp lake, wooden fence\n- s\N{LATIN SMALL LIGATURE FI}sh")
    expect(page.locator("#unknown")).to_contain_text("load it below")
    page.unroute("**/text_encoder.onnx")
    page.get_by_role("button", name="Load the text encoder").click()
    last_result(page, names=["background", "sky", "wooden fence"])
    expect(page.locator("#encoder")).to_be_hidden()
    assert page.locator("#readings li").all_inner_texts() == [
        "“sea &amp lake” was read as “sea & lake”.",
        "“s\N{LATIN SMALL LIGATURE FI}sh” was read as “sfish”.",
    ]
    context.close()


def test_any_word_has_the_labels_of_python(
    page: Page,
    fused_bundle: Path,
    picture: Path,
    segmenter: Segmenter,
    scene: NDArray[np.uint8],
    words: ClassEmbeddings,
) -> None:
    """With the text encoder in int8, as in the page. Processors round its products a little differently."""
    show(page, picture)
    page.fill("#typed", "sky, mountain; rock\n- grass")
    result = last_result(page, names=["background", "sky", "mountain"])
    small = Segmenter.open(fused_bundle, backend="onnxruntime", precision="int8")
    encoded = small.encode_classes({"sky": "sky", "mountain": ["mountain", "rock"]}, negatives=["grass"])
    expected = segmenter.segment(scene, encoded, window="whole").label_map
    assert len(np.unique(expected)) > 1
    assert (labels_of(result) == expected).mean() > 0.97
    expect(page.locator("#readings")).to_be_hidden()
    page.fill("#typed", ", ".join(words.names))


def test_progress_is_shown_while_the_model_loads(browser: Browser, address: str, picture: Path) -> None:
    """A picture that is chosen meanwhile is segmented as soon as the model is there."""
    context = browser.new_context(service_workers="block")  # with nothing of the page's kept
    context.add_init_script(KEEP_RESULTS)
    page = context.new_page()
    held: list[Route] = []
    page.route("**/image_encoder.onnx", lambda route: held.append(route))
    page.goto(address)
    expect(page.locator("#loading")).to_be_visible()
    page.set_input_files("#file", picture)
    expect(page.locator("#picture")).to_be_visible()
    page.wait_for_timeout(200)
    held[0].continue_()
    expect(page.locator("#bytes")).to_have_text(re.compile(r"7\.\d of 7\.\d MB, starting"))
    last_result(page)
    expect(page.locator("#loading")).to_be_hidden()
    context.close()


def test_one_thread_without_the_headers(
    new_page: Callable[..., Page], serve: Serve, fused_bundle: Path, picture: Path
) -> None:
    with serve(fused_bundle, "--no-isolation") as url:
        page = new_page(url)
        expect(page.locator("#status")).to_have_text("Ready for a picture.")
        expect(page.locator("#facts")).to_contain_text("1: this page is not isolated from other sites")
        show(page, picture)
        last_result(page)
        page.close()


def test_a_bundle_that_cannot_be_used_is_said(
    new_page: Callable[..., Page], serve: Serve, fused_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()

    def write(name: str, content: bytes) -> None:
        """Write a file whose date stands still, as for two writes within the second that servers tell apart."""
        (bundle / name).write_bytes(content)
        os.utime(bundle / name, (1_600_000_000, 1_600_000_000))

    graph, manifest = (fused_bundle / "image_encoder.onnx").read_bytes(), (fused_bundle / "manifest.json").read_bytes()
    write("manifest.json", manifest)
    with serve(bundle) as url:
        page = new_page(url)
        error = page.locator("#error")
        expect(error).to_have_text(re.compile(r"^/bundle/image_encoder\.onnx cannot be loaded: 404"))
        expect(page.locator("#loading")).to_be_hidden()
        write("image_encoder.onnx", b"damaged")
        page.goto(url)
        expect(error).to_contain_text("/bundle/image_encoder.onnx is not the file that manifest.json names")
        page.goto(url + "?precision=fp8")
        expect(error).to_contain_text("the bundle has no precisions/fp8/image_encoder.onnx")
        page.goto(url + "?threads=none")
        expect(error).to_have_text("threads is none, expected 1 or more")
        write("manifest.json", manifest.replace(b"0.56", b"0.46"))
        page.goto(url)
        expect(error).to_contain_text("manifest.json is not a bundle's manifest (it was changed since the export")
        write("manifest.json", manifest.replace(b'"schema_version": 2', b'"schema_version": 3'))
        page.goto(url)
        expect(error).to_contain_text("is of schema version 3, this program reads 2; take a newer version")
        write("manifest.json", b"{")
        page.goto(url)
        expect(error).to_contain_text("manifest.json is not a bundle's manifest")
        write("manifest.json", manifest)
        write("image_encoder.onnx", graph)
        page.goto(url)
        expect(page.locator("#status")).to_have_text("Ready for a picture.")
        page.close()


def test_without_its_vocabulary_the_page_takes_another(
    new_page: Callable[..., Page], address: str, vocabulary: Path, picture: Path
) -> None:
    page = new_page(address + "?vocabulary=nowhere")
    expect(page.locator("#error")).to_contain_text("/nowhere cannot be loaded (404")
    expect(page.locator("#status")).to_have_text("Ready for a picture.")
    page.set_input_files("#file", picture)
    expect(page.locator("#status")).to_have_text("Type a word to look for.")
    page.set_input_files("#vocabulary", vocabulary)
    assert len(last_result(page)["names"]) == 8
    page.close()


def test_a_missing_engine_is_said(new_page: Callable[..., Page], address: str) -> None:
    page = new_page("about:blank")
    page.route("**/onnxruntime/*", lambda route: route.abort())
    page.goto(address)
    expect(page.locator("#error")).to_have_text(
        "onnxruntime/ort.wasm.bundle.min.mjs cannot be loaded; 'npm ci' in this folder makes it"
    )
    page.close()


def test_weights_in_a_file_of_their_own(
    new_page: Callable[..., Page], serve: Serve, bundle_copy: Path, picture: Path, check_labels: Callable[..., None]
) -> None:
    """As large models have them."""
    keep_weights_apart(bundle_copy, IMAGE_ENCODER)
    with serve(bundle_copy) as url:
        page = new_page(url)
        page.set_input_files("#file", picture)
        check_labels(labels_of(last_result(page)), background=False, refine=False)
        page.close()
