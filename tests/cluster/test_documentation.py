"""The Python blocks of docs/cluster.md run on a dataset, and the manifest for KubeRay has the fields of its kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from t2d_runtime import Segmenter
from t2d_runtime.cluster.places import place_of
from t2d_runtime.cluster.worker import Engine, Task, Worker
from t2d_runtime.commands.command_line import build_parser
from tests.conftest import ROOT

from .conftest import WORDS, damage, write_scenes
from .test_worker import files, reports_of

DOCUMENT = ROOT / "docs" / "cluster.md"
KUBERAY = ROOT / "examples" / "kuberay"


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # pycocotools
def test_the_blocks_run(
    exported_bundle: Path,
    segmenter: Segmenter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = write_scenes(tmp_path / "in", 4)
    damage(paths[0])
    engine = Engine(str(exported_bundle), segmenter.manifest.digest, "onnxruntime", "fp32", 1, "host")
    task = Task(engine, segmenter.encode_classes(WORDS), {}, place_of("masks"), {}, 3)
    reports_of(Worker(task, lambda unit: 1), files(paths))
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "document"}
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), names)
    told = capsys.readouterr().out
    assert told.startswith("4 pictures, 1 failed\n")
    pixels = sum(segmenter.segment(path, WORDS).mask("sky").sum() for path in paths[1:])
    assert re.search(rf"^sky +{pixels}$", told, re.MULTILINE)
    with Image.open("drawn.png") as drawn, Image.open(names["row"]["path"]) as picture:
        assert drawn.size == picture.size


def test_the_manifest_has_what_kuberay_asks_for() -> None:
    """Names of fields: KubeRay's API reference, ray.io/v1."""
    job = yaml.safe_load((KUBERAY / "rayjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert set(spec) <= {
        *("entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec")
    }
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert set(cluster["headGroupSpec"]) == {"rayStartParams", "template"}
    (group,) = cluster["workerGroupSpecs"]
    assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    pods = [cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]]
    for pod in pods:
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    image = (KUBERAY / "Dockerfile").read_text(encoding="utf-8")
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]
    assert f"rayproject/ray:{pinned[1]}-" in image


def test_the_manifests_command_is_one() -> None:
    job = yaml.safe_load((KUBERAY / "rayjob.yaml").read_text(encoding="utf-8"))
    program, *arguments = job["spec"]["entrypoint"].split()
    args = build_parser().parse_args(arguments)
    assert (program, args.command, args.address, args.rows_per_file) == ("t2d", "cluster", "auto", 1000)
