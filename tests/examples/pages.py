"""Scripts and times for the tests of pages: each keeps its results, and tells when it is idle."""

from __future__ import annotations

from typing import Final

TIMEOUT_MS: Final = 120_000
"""For machines that are busy with other tests too."""

KEEP_RESULTS: Final = """
    window.results = [];
    document.addEventListener("segmentation", ({ detail }) =>
      window.results.push({ ...detail, labels: Array.from(detail.labels) }));
"""
LAST_RESULT: Final = """(options) => {
    const result = window.results.at(-1);
    const idle = document.querySelector("#canvases").ariaBusy === "false";
    const right = ([name, value]) => JSON.stringify(result[name]) === JSON.stringify(value);
    return idle && result && Object.entries(options).every(right) && result;
}"""
