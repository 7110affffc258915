"""`t2d serve` as a process: its line, its end, its errors; and nothing of it needs PyTorch."""

from __future__ import annotations

import gc
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from t2d_runtime.cli import main
from t2d_runtime.serving.server import Server, listening_socket
from tests.conftest import hear_interrupts

from .conftest import TIMEOUT_S

KEY = "0123456789abcdef"
SOURCE = ["--port", "0", "--classes", "cat", "--source"]


@contextmanager
def running(bundle: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "t2d_runtime", "serve", str(bundle), "--port", "0", "--backend", "onnxruntime"]
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
        preexec_fn=hear_interrupts,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(r"(http://[0-9.]+:\d+/) serves .*: tiny, onnxruntime in fp32\n", line)
            assert found is not None, (line, process.stderr and process.stderr.read())
            yield process, found[1]
        finally:
            process.kill()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_server(exported_bundle: Path, end: signal.Signals) -> None:
    """Requests that have come are answered, no more are taken, and the status is 0."""
    stream = io.BytesIO()
    Image.effect_noise((150, 100), 100).convert("RGB").save(stream, "PNG")
    words = ",".join(f"thing {number}" for number in range(40))
    slow = {"classes": words, "refine": '{"iterations": 50, "dilations": [1, 2, 3, 4, 5, 6, 7, 8]}', "format": "grey"}

    def ask(url: str) -> int:
        return httpx.post(f"{url}segment", files={"image": stream.getvalue()}, data=slow, timeout=TIMEOUT_S).status_code

    with running(exported_bundle, OMP_NUM_THREADS="1") as (process, url), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, url)
        while "t2d_queue_requests 1.0" not in httpx.get(f"{url}metrics", timeout=TIMEOUT_S).text:
            assert not asked.done()
        process.send_signal(end)
        assert asked.result() == 200
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_all_addresses_need_a_key_or_a_word(exported_bundle: Path) -> None:
    with running(exported_bundle, "--host", "0.0.0.0", T2D_SERVE_KEY=KEY) as (_, url):
        assert httpx.get(f"{url}info").status_code == 401
        assert httpx.get(f"{url}info", headers={"x-api-key": KEY}).status_code == 200


def test_no_collection_looks_at_what_was_loaded(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would stop all requests for a tenth of a second or more."""
    left_out = []

    def start(self: Server, sockets: object) -> None:
        self._on_start()
        left_out.append(gc.get_freeze_count())
        gc.unfreeze()

    monkeypatch.setattr(Server, "run", start)
    assert main(["serve", str(exported_bundle), "--port", "0", "--backend", "onnxruntime"]) == 0
    assert left_out[0] > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines in: give --key-file F, or a key in the variable"),
        (["--no-key"], "--no-key has no effect on 127.0.0.1, which needs no key"),
        (["--key-file", "none"], "cannot read none"),
        (["--postprocess", "gpu"], "postprocess is 'gpu', expected one of ['host', 'device']"),
        (["--queue", "0"], "--queue is 0, expected a number above 0"),
        (["--deadline", "nan"], "--deadline is nan, expected a number above 0"),
        (["--allow-host", "a b"], "--allow-host 'a b': expected a host name"),
        (["--port", "70000"], "--port is 70000, expected 0 to 65535"),
        (["--host", "192.0.2.1", "--no-key"], "cannot listen on 192.0.2.1, port 8000"),
        (["--source", "0"], "--source needs the words that are looked for at first: add --classes"),
        (["--classes-file", "words"], "--classes-file has no effect without --source"),
        ([*SOURCE, "99"], "camera 99"),
        ([*SOURCE, "none.mp4"], "none.mp4: no such file"),
        ([*SOURCE, "rtsp://127.0.0.1:9/x"], "rtsp://127.0.0.1:9/x cannot be read as video: Connection refused"),
        ([*SOURCE, "ftp://example.org/x"], "ftp:// is no source"),
    ],
)
def test_wrong_options_are_told(
    exported_bundle: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(exported_bundle), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("t2d: error: ")
    assert message in line


def test_a_port_that_is_taken_is_told(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(exported_bundle), "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err


def test_a_port_is_never_shared_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """SO_REUSEADDR lets two servers have one port there."""
    with listening_socket("127.0.0.1", 0) as bound:
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_KEEPALIVE, raising=False)
    with listening_socket("127.0.0.1", 0) as bound:
        assert not bound.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


WITHOUT = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_a_missing_package_is_told_with_the_command(exported_bundle: Path) -> None:
    code = WITHOUT.format(blocked=("fastapi",)) + "from t2d_runtime.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = run(code, "serve", str(exported_bundle))
    assert done.returncode == 2
    assert "fastapi is not installed; in a checkout of t2d-runtime: pip install '.[serve]'" in done.stderr


def test_no_module_of_the_service_needs_torch() -> None:
    blocked = ("torch", "onnx", "timm", "open_clip", "t2d_export", "training", "benchmarks")
    code = WITHOUT.format(blocked=blocked) + (
        "import importlib, pkgutil, t2d_runtime.serving as serving\n"
        "found = list(pkgutil.walk_packages(serving.__path__, 't2d_runtime.serving.'))\n"
        "found = [one for one in found if '.triton' not in one.name]  # tests/triton imports these\n"
        "for module in found: importlib.import_module(module.name)\n"
        "print(len(found))\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
