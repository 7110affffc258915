# ruff: noqa: T201
"""Two local nodes lose a worker, the driver and a node; then each row is compared with one process's. No test.

.venv-cluster/bin/python -m tests.cluster.two_nodes BUNDLE [--scenes 2000] [--size 112]
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from ray.cluster_utils import Cluster

from t2d_runtime import Segmenter
from tests.conftest import ROOT
from training.drawing.scenes import draw_scene

from .conftest import Run, damage, files_of, row_of, rows_of

WORDS = ("sky", "grass", "sun", "house", "tree", "person")
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
ROWS_PER_FILE = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--size", type=int, default=112)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scenes, output = Path(name, "in"), Path(name, "out")
        scenes.mkdir()
        paths = [scenes / f"{index:06}.png" for index in range(args.scenes)]
        for index, path in enumerate(paths):
            Image.fromarray(draw_scene(5, index, args.size).image).save(path)
        damage(paths[args.scenes // 3])
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            run_with_losses(cluster, cluster.add_node(**NODE), [args.bundle, scenes, "--output", output], output)
        finally:
            cluster.shutdown()
        compare(args.bundle, paths, output)


def run_with_losses(cluster: Cluster, node: Any, arguments: list[Any], output: Path) -> None:
    more = ("--classes", ",".join(WORDS), "--background", "--backend", "onnxruntime", "--address", cluster.address)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*arguments, *more, "--rows-per-file", str(ROWS_PER_FILE)]

    def parts() -> int:
        return len(files_of(output))

    first = Run(command, environment)
    first.wait_for(lambda: parts() > 10)
    worker = next(number for number in below(raylet_of(node)) if is_worker(number))
    print(f"with {parts()} parts: the worker {worker} is killed")
    os.kill(worker, signal.SIGKILL)
    first.wait_for(lambda: parts() > 30)
    print(f"with {parts()} parts: the driver is killed")
    first.process.kill()
    first.process.communicate()
    start = time.perf_counter()
    second = Run(command, environment)
    second.wait_for(lambda: parts() > 45)
    print(f"with {parts()} parts: a node is killed")
    os.kill(raylet_of(node), signal.SIGKILL)
    status, out, err = second.end()
    print(f"status {status} after {time.perf_counter() - start:.0f} s\n{out}{err}", end="")


def raylet_of(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def below(number: int) -> list[int]:
    children = [
        int(child) for file in Path(f"/proc/{number}/task").glob("*/children") for child in file.read_text().split()
    ]
    return [found for child in children for found in (child, *below(child))]


def is_worker(number: int) -> bool:
    return Path(f"/proc/{number}/cmdline").read_bytes().startswith(b"ray::MapWorker")


def compare(bundle: Path, paths: list[Path], output: Path) -> None:
    segmenter = Segmenter.open(bundle, backend="onnxruntime", num_threads=1)
    classes = segmenter.encode_classes(WORDS)
    rows = rows_of(output)
    size = sum(path.stat().st_size for path in output.iterdir())
    named = {row["path"]: row for row in rows}
    other = sum(named.get(str(path)) != row_of(segmenter, path, str(path), classes, background=True) for path in paths)
    print(
        f"{len(paths)} pictures, {len(rows)} rows, {len(rows) - len(named)} twice, {other} missing or other than one "
        f"process's; {size / len(rows):.0f} bytes a picture"
    )


if __name__ == "__main__":
    main()
