"""Measure the page in headless Chromium: prints a table in Markdown, medians of several pictures.

    python measure.py BUNDLE VOCABULARY.safetensors PICTURES [--threads 2] [--precision fp32] [--camera] [--memory]

Needs `pip install playwright` and a Chromium or Chrome: T2D_CHROMIUM names it, else that of the tests is taken.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 12
KEEP = """
window.results = [];
document.addEventListener("segmentation", ({ detail }) => window.results.push({
    milliseconds: detail.milliseconds, times: detail.times, names: detail.names.length, at: performance.now() }));
"""


def chromium() -> tuple[str, dict[str, str]]:
    """The browser's path, and the environment that it needs."""
    if program := os.environ.get("T2D_CHROMIUM"):
        return program, {}
    for folder in sorted((ROOT / "build" / "browser").glob("*/")):
        return str(folder / "chromium"), {
            "LD_LIBRARY_PATH": str(folder / "al2023" / "lib"),
            "FONTCONFIG_PATH": str(folder / "fonts"),
        }
    sys.exit("no browser: name one in T2D_CHROMIUM")


def result(page: Page, act, *arguments) -> dict:
    """The segmentation that an action brings about."""
    page.evaluate("window.results = []")
    act(*arguments)
    page.wait_for_function(
        "() => window.results.length > 0 && document.querySelector('#canvases').ariaBusy === 'false'", timeout=120_000
    )
    return page.evaluate("window.results.at(-1)")


def rows(page: Page, pictures: list[Path]):
    """Names and milliseconds, with the parts that they are made of."""
    all_words = page.input_value("#typed")
    for refine in (False, True):
        page.set_checked("#refine", refine)
        name = "with PAMR" if refine else "without PAMR"
        shown = [
            result(page, page.set_input_files, "#file", pictures[index % len(pictures)]) for index in range(ROUNDS + 2)
        ][2:]
        encoded, masks = (median(one["times"][part] for one in shown) for part in ("image", "masks"))
        total = median(one["milliseconds"] for one in shown)
        words = shown[0]["names"]
        yield f"a picture with {words} words, {name}", f"{total:.0f} ms", f"encoding {encoded:.0f}, masks {masks:.0f}"
        typed = [word.strip() for word in all_words.split(",")]
        others = [result(page, page.fill, "#typed", ", ".join(typed[index % 5 :])) for index in range(1, ROUNDS + 1)]
        total = median(one["milliseconds"] for one in others)
        yield f"other words on a known picture, {name}", f"{total:.0f} ms", ""
        page.fill("#typed", all_words)
        page.wait_for_timeout(300)


def new_words(page: Page):
    """Words that the vocabulary lacks: the first loads the text encoder."""
    words = ("wooden fence", "zebra", "lighthouse", "red car", "old bridge", "snowman")
    found = [result(page, page.fill, "#typed", f"sky, {word}")["times"]["words"] for word in words]
    yield "the first new word, which loads the text encoder", f"{found[0] / 1000:.1f} s", ""
    yield "another new word", f"{median(found[1:]):.0f} ms", ""


def camera(page: Page):
    """Frames a second of Chromium's drawn camera, 640 x 480."""
    for refine in (False, True):
        page.set_checked("#refine", refine)
        page.evaluate("window.results = []")
        page.click("#camera")
        page.wait_for_timeout(6000)
        page.click("#camera")
        page.wait_for_timeout(500)
        times = page.evaluate("window.results.map(({ at }) => at)")[3:]
        rate = 1000 * (len(times) - 1) / (times[-1] - times[0])
        yield (
            f"camera, {'with' if refine else 'without'} PAMR",
            f"{rate:.1f} frames a second",
            page.inner_text("[data-name=Picture]"),
        )


def memory(page: Page, pictures: list[Path], process: int):
    """Memory of the browser's processes after 10 and after 100 pictures."""
    held = {}
    for number in range(1, 101):
        result(page, page.set_input_files, "#file", pictures[number % len(pictures)])
        if number in (10, 100):
            page.wait_for_timeout(2000)
            held[number] = proportional_memory(process)
    change = 100 * (held[100] / held[10] - 1)
    yield "memory after 10 and after 100 pictures", f"{held[10]:.0f} and {held[100]:.0f} MB", f"{change:+.1f}%"


def proportional_memory(process: int) -> float:
    """MB of a process and all that descend from it; shared pages count in proportion. Linux alone."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, total = [process], 0
    while found:
        one = found.pop()
        found += children.get(one, [])
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the page in headless Chromium.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("pictures", type=Path, help="a folder of PNG or JPEG files")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--camera", action="store_true")
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    pictures = sorted(path for path in args.pictures.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    program, environment = chromium()
    serve = [sys.executable, str(ROOT / "examples/web/serve.py"), str(args.bundle), str(args.vocabulary), "--port", "0"]
    options = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        address = server.stdout.readline().strip()
        browser = playwright.chromium.launch(executable_path=program, env=os.environ | environment, args=options)
        page = browser.new_page()
        page.add_init_script(KEEP)
        page.goto(f"{address}?threads={args.threads}&precision={args.precision}&engine=wasm")
        page.wait_for_function("document.querySelector('#typed').value !== ''", timeout=120_000)
        table = [*rows(page, pictures), *new_words(page)]
        page.reload()
        page.wait_for_function("document.querySelector('#typed').value !== ''", timeout=120_000)
        table += [*camera(page)] if args.camera else []
        table += [*memory(page, pictures, os.getpid())] if args.memory else []
        print(f"Chromium {browser.version}, {page.inner_text('#facts [data-name=Model]')}, {args.threads} threads\n")
        print("| | | |\n|---|---|---|")
        for row in table:
            print(f"| {' | '.join(row)} |")
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
