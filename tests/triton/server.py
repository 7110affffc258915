"""A real Triton server from the package nvidia-pytriton, on free ports of this machine, without a container."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S = 120


@dataclass(frozen=True)
class Server:
    http: str
    grpc: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def triton_server(repository: Path, folder: Path, python: Path = Path(sys.executable)) -> Iterator[Server]:
    """Serves the model `t2d` of a repository. `python`: the interpreter whose packages the model imports."""
    spec = importlib.util.find_spec("pytriton")
    assert spec is not None, "nvidia-pytriton is not installed: run 'bash scripts/test triton'"
    assert spec.origin is not None
    home = Path(spec.origin).parent
    log = folder / "server.log"
    http, grpc = free_ports(2)
    command: list[str | Path] = [
        home / "tritonserver" / "bin" / "tritonserver",
        *("--model-repository", repository),
        *("--backend-directory", python_backend(home / "tritonserver", folder / "backends")),
        *("--model-control-mode", "explicit", "--load-model", "t2d"),
        *("--http-address", "127.0.0.1", "--http-port", str(http)),
        *("--grpc-address", "127.0.0.1", "--grpc-port", str(grpc)),
        *("--allow-metrics", "false", "--exit-timeout-secs", "2"),
    ]
    environment = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LD_LIBRARY_PATH": f"{home.parent / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_until_ready(f"http://127.0.0.1:{http}/v2/models/t2d/ready", process, log)
        yield Server(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", log, process)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def python_backend(triton: Path, folder: Path) -> Path:
    """A backend folder with the Python backend and the stub of this Python's version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(triton / "backends" / "python", folder / "python")
    shutil.copy(triton / "python_backend_stubs" / version / "triton_python_backend_stub", folder / "python")
    return folder


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"Triton does not start:\n{log.read_text(errors='replace')[-4000:]}")
