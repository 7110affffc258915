"""Scripts, times and a plain server for the tests of pages: each keeps its results, and tells when it is idle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
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


@contextmanager
def static_host(folder: Path) -> Iterator[str]:
    """A server that knows nothing of the page: no headers, and the site in a folder of it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://localhost:{server.server_port}/site/"
        finally:
            server.shutdown()
