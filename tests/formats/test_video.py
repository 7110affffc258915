"""Formats of a whole run, for the frames of a video."""

from __future__ import annotations

import json
from pathlib import Path

from t2d_runtime.cli import main
from tests.streams.clips import pictures, write_clip


def test_coco_of_a_video_has_its_frames_and_is_finished_at_the_end(exported_bundle: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    clip = write_clip(tmp_path / "clip.mp4", pictures(6))
    arguments = [
        str(clip),
        "--classes",
        "sky,grass,road",
        "--output",
        str(tmp_path / "out"),
        "--format",
        "overlay,coco",
    ]
    assert main(["video", str(exported_bundle), *arguments, "--every", "2", "--backend", "onnxruntime"]) == 0
    (file,) = (tmp_path / "out" / "clip").iterdir()
    content = json.loads(file.read_text())
    assert [Path(image["file_name"]).stem for image in content["images"]] == ["000000", "000002", "000004"]
    assert {(image["height"], image["width"]) for image in content["images"]} == {(48, 64)}
    coco = COCO(str(file))
    assert sum(found["area"] for found in coco.loadAnns(coco.getAnnIds())) == 3 * 48 * 64
