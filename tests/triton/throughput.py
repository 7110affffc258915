"""Pictures a second: Triton over HTTP and gRPC beside `t2d serve` and a Segmenter in one process, in turn. No test.

.venv-triton/bin/python -m tests.triton.throughput BUNDLE [--clients 4] [--instances 1] [--threads N] [--rounds 5]

`t2d serve` needs its own extra: --serve-python names a Python with it, such as .venv-serving/bin/python.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2d_runtime import Segmenter
from t2d_runtime.serving.triton.repository import RepositorySettings, write_repository
from tests.triton.client import Client
from tests.triton.server import free_ports, triton_server

PICTURES = 24
WORDS = ["sky", "grass", "person", "road"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--serve-python", type=Path)
    for name, default in (("clients", 4), ("instances", 1), ("threads", None), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    pictures = list(jpegs())
    segmenter = Segmenter.open(args.bundle, backend=args.backend, num_threads=args.threads)
    classes = segmenter.encode_classes(WORDS)

    def plain() -> None:
        for _ in segmenter.segment_batch(pictures, classes):
            pass

    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        settings = RepositorySettings(args.backend, num_threads=args.threads, instances=args.instances, models=("t2d",))
        write_repository(args.bundle, repository, settings)
        with (
            triton_server(repository, Path(folder)) as triton,
            served(args) as port,
            ThreadPoolExecutor(args.clients) as pool,
        ):
            asks = {
                "Triton HTTP": asking_triton("http", triton.http),
                "Triton gRPC": asking_triton("grpc", triton.grpc),
            }
            if port:
                asks["t2d serve"] = asking_serve(port)
            runs = {name: lambda ask=ask: list(pool.map(ask, pictures)) for name, ask in asks.items()}
            report({"Segmenter.segment_batch": plain, **runs}, args.rounds)


def jpegs() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for _ in range(PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        stream = io.BytesIO()
        coarse.resize((480, 360)).save(stream, "JPEG")
        yield stream.getvalue()


def asking_triton(protocol: str, address: str) -> Callable[[bytes], Any]:
    client, words = Client(protocol, address), np.frombuffer(json.dumps(WORDS).encode(), np.uint8)
    return lambda picture: client.infer({"encoded_image": np.frombuffer(picture, np.uint8), "words_json": words})


def asking_serve(port: int) -> Callable[[bytes], Any]:
    own = threading.local()

    def ask(picture: bytes) -> None:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection("127.0.0.1", port)
        path = f"/segment?format=png&classes={','.join(WORDS)}"
        own.connection.request("POST", path, picture, {"Content-Type": "image/jpeg"})
        answer = own.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(content.decode())

    return ask


@contextmanager
def served(args: argparse.Namespace) -> Iterator[int | None]:
    """The port of `t2d serve`; None without a Python for it."""
    if args.serve_python is None:
        yield None
        return
    (port,) = free_ports(1)
    threads = [] if args.threads is None else ["--threads", str(args.threads)]
    command = [args.serve_python, "-m", "t2d_runtime", "serve", args.bundle, "--port", str(port), *threads]
    process = subprocess.Popen([*command, "--backend", args.backend], stdout=subprocess.PIPE, text=True)
    try:
        print(process.stdout.readline().strip() if process.stdout else "")  # noqa: T201 - it serves
        yield port
    finally:
        process.terminate()
        process.wait()


def report(runs: dict[str, Callable[[], Any]], rounds: int) -> None:
    """Prints medians of rounds in which every way has its turn; the first round is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            rates[name].append(PICTURES / (time.perf_counter() - start))
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(found[1:], rates["Segmenter.segment_batch"][1:], strict=True))
        print(f"{name:<24} {statistics.median(found[1:]):6.2f} pictures/s, {ratio:.2f} of segment_batch")  # noqa: T201


if __name__ == "__main__":
    main()
