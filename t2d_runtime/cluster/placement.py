"""Shares a cluster among workers: how many there are, and the cores and GPUs of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t2d_runtime.errors import ClusterError

ON_GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "tensorrt-rtx")
"""Backends that run on an NVIDIA GPU."""


@dataclass(frozen=True)
class Node:
    """Resources that one machine of a cluster offers to Ray."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Placement:
    """The workers of a run."""

    workers: int
    threads: int
    """CPU threads of each worker, which are reserved for it."""
    gpus: float = 0
    """GPUs of each worker."""


def nodes_of_cluster() -> list[Node]:
    """The machines of the connected cluster that are alive."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(int(found.get("CPU", 0)), int(found.get("GPU", 0))) for found in alive]


def place_workers(
    nodes: Sequence[Node], *, on_gpu: bool, workers: int | None, threads: int | None, growing: bool
) -> Placement:
    """One worker for each GPU, or for each machine with all of its cores; or as many as are asked for.

    Machines of several sizes share their cores so that as many as are asked for fit, with as many cores as possible.
    `growing`: the cluster may get more machines, so that more workers than fit now may be asked for.
    Raises ClusterError where no worker fits, or fewer than are asked for.
    """
    if on_gpu:
        return _on_gpus([node for node in nodes if node.gpus], workers, threads, growing=growing)
    cores = [node.cpus for node in nodes if node.cpus]
    if not cores:
        raise ClusterError("no machine of the cluster offers a core to Ray; start one with --num-cpus above 0")
    if threads is None:
        threads = min(cores) if workers is None else _most_threads(cores, workers)
    places = sum(count // threads for count in cores)
    if not places:
        raise ClusterError(f"no machine of the cluster has {threads} cores; the largest has {max(cores)}")
    if workers is not None and workers > places and not growing:
        raise ClusterError(f"{workers} workers of {threads} threads do not fit: there is room for {places}")
    return Placement(workers or places, threads)


def _most_threads(cores: Sequence[int], workers: int) -> int:
    """The most threads with which so many workers fit; 1 where they do not."""
    fitting = (threads for threads in range(max(cores), 0, -1) if sum(count // threads for count in cores) >= workers)
    return next(fitting, 1)


def _on_gpus(nodes: Sequence[Node], workers: int | None, threads: int | None, *, growing: bool) -> Placement:
    """A worker for each GPU with its share of the machine's cores; several share a GPU where more are asked for."""
    if not nodes:
        raise ClusterError("no machine of the cluster offers a GPU to Ray; choose a --backend for the CPU, or add one")
    gpus = sum(node.gpus for node in nodes)
    a_gpu = 1 if workers is None or growing else -(-workers // gpus)
    threads = threads or max(1, min(node.cpus // (node.gpus * a_gpu) for node in nodes))
    return Placement(workers or gpus, threads, 1 / a_gpu)
