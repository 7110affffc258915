"""The end of a local cluster, also where Ray's objects outlive it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cluster.conftest import ROOT

ENDED_BY_AN_ERROR = """
import gc
from t2d_runtime.cluster.processes import descendants
from t2d_runtime.cluster.session import ray_session

def work():
    import ray
    numbers = ray.data.range(1000, override_num_blocks=100).map_batches(lambda batch: batch)
    batches = iter(numbers.iter_batches(batch_size=10))
    next(batches)
    raise KeyError("in the middle")  # its traceback holds `batches`

try:
    with ray_session(None):
        work()
except KeyError:
    pass
gc.collect()
print(len(descendants()))
"""


def test_an_iterator_that_outlives_the_cluster_starts_no_other_one() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": ""}
    command = [sys.executable, "-c", ENDED_BY_AN_ERROR]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
