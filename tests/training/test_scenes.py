"""Drawn scenes: labels that fit the picture, captions that fit the labels, the same by seed, written whole."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2d_runtime.errors import OptionError, OutputError
from training.__main__ import main
from training.drawing.canvas import Canvas
from training.drawing.concepts import CONCEPT_LIST, CONCEPTS, INDEX
from training.drawing.layouts import LAYOUT_WEIGHTS, LAYOUTS, SIZES
from training.drawing.scenes import FEW, MIN_SHARE, Scene, draw_scene, draw_scenes, write_scenes
from training.drawing.things import PAINTERS

ROOT = Path(__file__).resolve().parent.parent.parent
SERIES = 5


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(SERIES, index) for index in range(60)]


def test_same_arguments_same_scene() -> None:
    first, second = draw_scene(3, 7), draw_scene(3, 7)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.regions, second.regions)
    assert first.captions == second.captions


def test_other_seed_or_index_other_scene() -> None:
    reference = draw_scene(3, 7)
    assert not np.array_equal(reference.image, draw_scene(4, 7).image)
    assert not np.array_equal(reference.image, draw_scene(3, 8).image)


@given(size=st.integers(56, 150), index=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_any_size(size: int, index: int) -> None:
    scene = draw_scene(SERIES, index, size)
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.labels.shape == scene.regions.shape == (size, size)
    assert scene.labels.max() < len(CONCEPTS)


def test_every_region_is_one_concept(scenes: list[Scene]) -> None:
    for scene in scenes:
        for region in np.unique(scene.regions):
            assert len(np.unique(scene.labels[scene.regions == region])) == 1


def test_what_is_in_a_scene_can_be_seen(scenes: list[Scene]) -> None:
    for scene in scenes:
        shares = np.bincount(scene.labels.ravel()) / scene.labels.size
        assert shares[shares > 0].min() >= MIN_SHARE


def test_all_concepts_occur(scenes: list[Scene]) -> None:
    seen = {name for scene in scenes for name in scene.concepts}
    assert seen == set(CONCEPTS)


def test_captions_name_only_what_is_there(scenes: list[Scene]) -> None:
    words = {word: concept.name for concept in CONCEPT_LIST for word in concept.words}
    for scene in scenes:
        assert len(scene.captions) == 6
        for caption in scene.captions:
            named = {words[word] for word in re.findall(r"[a-z]+", caption.lower()) if word in words}
            # "the sky", "a street" and "the mountains" are also names of places.
            place = {words[word] for layout in LAYOUTS for word in layout.place.split() if word in words}
            assert named - place <= set(scene.concepts), caption
            assert caption.isprintable()
            assert "{" not in caption


def test_captions_together_name_most_of_a_scene(scenes: list[Scene]) -> None:
    words = {word: concept.name for concept in CONCEPT_LIST for word in concept.words}
    named = found = 0
    for scene in scenes:
        text = set(re.findall(r"[a-z]+", " ".join(scene.captions).lower()))
        named += len({words[word] for word in text & words.keys()} & set(scene.concepts))
        found += len(scene.concepts)
    assert named / found > 0.95


def test_images_have_texture_and_colour(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.std(axis=(0, 1)).min() > 2
        assert not np.array_equal(scene.image[..., 0], scene.image[..., 2])


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_things_are_three_patches_wide(name: str) -> None:
    size = SIZES[name][0]
    canvas = Canvas(224)
    ground = canvas.new_region("grass")
    canvas.rectangle(ground, 0, 0, 1, 1, (90, 150, 60))
    adjective = PAINTERS[name](canvas, np.random.default_rng(0), 0.5, 0.9, size)
    _, labels, _ = canvas.finish(np.random.default_rng(0), (1.0, 1.0, 1.0), 1.0)
    columns = np.flatnonzero((labels == INDEX[name]).any(axis=0))
    assert columns[-1] - columns[0] + 1 >= 40
    assert adjective


def test_several_processes_draw_the_same() -> None:
    together = list(draw_scenes(FEW, SERIES, 56, workers=2, progress=False))
    assert len(together) == FEW
    for index in (0, 40, FEW - 1):
        assert np.array_equal(together[index].image, draw_scene(SERIES, index, 56).image)


def test_layouts_have_weights() -> None:
    assert len(LAYOUTS) == len(LAYOUT_WEIGHTS)


def test_written_layout(tmp_path: Path) -> None:
    output = tmp_path / "scenes"
    assert main(["scenes", "--output", str(output), "--count", "3", "--seed", "5", "--size", "64"]) == 0
    captions = json.loads((output / "annotations" / "captions.json").read_text())
    assert [image["file_name"] for image in captions["images"]] == ["000000.png", "000001.png", "000002.png"]
    assert len({annotation["id"] for annotation in captions["annotations"]}) == 18
    assert json.loads((output / "classes.json").read_text()) == list(CONCEPTS)
    scene = draw_scene(5, 1, 64)
    assert np.array_equal(np.asarray(Image.open(output / "images" / "000001.png")), scene.image)
    assert np.array_equal(np.asarray(Image.open(output / "labels" / "000001.png")), scene.labels)
    written = [a["caption"] for a in captions["annotations"] if a["image_id"] == 1]
    assert tuple(written) == scene.captions


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    with pytest.raises(OutputError, match="does not exist yet"):
        write_scenes(tmp_path / "scenes", 1, 0, 64)
    assert list((tmp_path / "scenes").iterdir()) == []


def test_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.drawing.scenes.json.dumps", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_scenes(tmp_path / "scenes", 1, 0, 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--count", "0"], ["--size", "20"]])
def test_bad_sizes(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenes", "--output", str(tmp_path / "x"), *arguments]) == 2
    assert "expected at least 1 scene of 56 to 4096" in capsys.readouterr().err


def test_bad_sizes_are_an_option_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="56 to 4096"):
        write_scenes(tmp_path / "x", 1, 0, 20)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_killed_drawing_leaves_no_process_behind(tmp_path: Path, number: signal.Signals, status: int) -> None:
    output = tmp_path / "scenes"
    program = [sys.executable, "-m", "training", "scenes", "--output", str(output), "--count", "5000", "--size", "56"]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as killed:
        while killed.poll() is None and not any(tmp_path.glob("*/images/*.png")):
            time.sleep(0.01)
        killed.send_signal(number)
        # The pipes are closed when the last process that writes to them has ended.
        _, errors = killed.communicate(timeout=300)
    assert killed.returncode == status, errors.decode()
    assert not output.exists()
    if number == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []
