"""A `t2d serve` process, its memory, and what it wrote."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2d_runtime.errors import BenchmarkError


class ServerProcess:
    """A running server."""

    def __init__(self, address: str, log: Path) -> None:
        self.address = address
        self._log = log

    def figure(self, name: str) -> float:
        """One of the server's own figures."""
        with urllib.request.urlopen(f"{self.address}metrics") as answer:
            text = answer.read().decode()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        if found is None:
            raise BenchmarkError(f"the server has no figure {name}")
        return float(found[1])

    def resident_bytes(self) -> int:
        """Memory that the server holds."""
        return int(self.figure("process_resident_memory_bytes"))

    def tracebacks(self) -> int:
        """Faults that the server has logged."""
        return self._log.read_text(encoding="utf-8").count("Traceback")


@contextmanager
def server(bundle: Path, backend: str, *options: str) -> Iterator[ServerProcess]:
    """Run `t2d serve` on a free port. Raises BenchmarkError where it does not start."""
    command = [sys.executable, "-m", "t2d_runtime", "serve", str(bundle), "--port", "0", "--backend", backend, *options]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            output = process.stdout
            if output is None:
                raise BenchmarkError("the server has no output")
            address = output.readline().decode().split(" ")[0]
            if not address.startswith("http"):
                raise BenchmarkError(f"the server did not start: {log.read_text(encoding='utf-8').strip()}")
            try:
                yield ServerProcess(address, log)
            finally:
                process.terminate()


@contextmanager
def watched(running: ServerProcess, seconds: float = 2.0) -> Iterator[list[int]]:
    """Samples of the server's memory in bytes, taken while the block runs."""
    samples: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(seconds):
            samples.append(running.resident_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
