"""Drawn clips: things that move and a camera that pans, labels that fit every frame, files that players read."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from t2d_runtime.errors import OptionError
from training.__main__ import main
from training.drawing.clips import ALOFT, MOTIONS, ClipSettings, Frame, draw_clip
from training.drawing.concepts import CONCEPTS

SMALL = ClipSettings(size=(96, 128), frames=12, fps=4)
MOVING = [CONCEPTS.index(name) for name in MOTIONS]


def clip(index: int = 0, seed: int = 3, **changes: object) -> list[Frame]:
    return list(draw_clip(seed, index, ClipSettings(**{**SMALL.__dict__, **changes})))  # type: ignore[arg-type]


def test_same_arguments_same_clip() -> None:
    for first, second in zip(clip(), clip(), strict=True):
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.labels, second.labels)
    assert not np.array_equal(clip()[0].labels, clip(index=1)[0].labels)
    assert not np.array_equal(clip()[0].labels, clip(seed=4)[0].labels)


@pytest.mark.parametrize("index", range(5))
def test_something_moves_and_the_camera_pans(index: int) -> None:
    frames = clip(index)
    assert len(frames) == 12
    ground = [label for label in MOVING if CONCEPTS[label] not in ALOFT]
    assert np.isin(frames[0].labels, ground).any()
    for before, after in pairwise(frames):
        assert before.image.shape == (96, 128, 3)
        assert not np.array_equal(before.labels, after.labels)


def test_the_picture_goes_with_the_camera_and_things_by_themselves() -> None:
    """A later frame, moved as the camera moved, has the first one's labels and texture, but the ball is elsewhere."""
    first, _, last = clip(fps=16, frames=3, size=(240, 320))
    inside = np.zeros(first.labels.shape, dtype=bool)
    inside[8:-8, 8:-8] = ~np.isin(first.labels, MOVING)[8:-8, 8:-8]
    ways = [(down, right) for down in range(-5, 6) for right in range(-5, 6)]
    equal = {way: (np.roll(last.labels, way, axis=(0, 1)) == first.labels)[inside].mean() for way in ways}
    way = max(ways, key=lambda way: equal[way])
    assert equal[way] > equal[0, 0] + 0.01
    apart = np.abs(np.roll(last.image.astype(int), way, axis=(0, 1)) - first.image)
    tree = inside & (first.labels == CONCEPTS.index("tree"))  # the strongest texture
    before, after = (labels == CONCEPTS.index("ball") for labels in (first.labels, np.roll(last.labels, way, (0, 1))))
    assert apart[tree].mean() < 2.1  # the grain of two frames; 2.5 where the texture stays
    assert (before & after).sum() < 0.95 * (before | after).sum()


def test_a_still_end_has_grain_alone() -> None:
    frames = clip(still=0.5)
    moving, still = frames[:6], frames[5:]
    assert all(not np.array_equal(a.labels, b.labels) for a, b in pairwise(moving))
    for before, after in pairwise(still):
        assert np.array_equal(before.labels, after.labels)
        apart = np.abs(before.image.astype(int) - after.image)
        assert 0 < apart.max() <= 15


def test_scenes_are_joined_by_cuts() -> None:
    frames = clip(scenes=3)
    changed = [float((a.labels != b.labels).mean()) for a, b in pairwise(frames)]
    cuts = {3, 7}
    assert {i for i, share in enumerate(changed) if share > 0.35} == cuts, changed


def test_written_clips(tmp_path: Path) -> None:
    output = tmp_path / "clips"
    arguments = ["--frame-size", "128x96", "--frames", "12", "--fps", "4", "--still", "0.25", "--count", "2"]
    assert main(["scenes", "--clip", "--output", str(output), "--seed", "3", *arguments]) == 0
    listed = json.loads((output / "clips.json").read_text())["clips"]
    assert json.loads((output / "classes.json").read_text()) == list(CONCEPTS)
    assert [entry["file"] for entry in listed] == ["clips/000000.mp4", "clips/000001.mp4"]
    for index, entry in enumerate(listed):
        drawn = clip(index, still=0.25)
        seen = {CONCEPTS[label] for frame in drawn for label in np.unique(frame.labels)}
        assert set(entry["concepts"]) == seen
        assert set(entry["moving"]) == seen & set(MOTIONS)
        with av.open(str(output / entry["file"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.average_rate) == ("h264", 4)
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        labels = [np.asarray(Image.open(path)) for path in sorted((output / entry["labels"]).iterdir())]
        assert len(decoded) == len(labels) == entry["frames"] == 12
        for frame, picture, label in zip(drawn, decoded, labels, strict=True):
            assert np.array_equal(frame.labels, label)
            assert np.abs(picture.astype(int) - frame.image).mean() < 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "3"], "--frames is for clips; add --clip"),
        (["--clip", "--size", "64"], "give --frame-size for clips"),
        (["--clip", "--frame-size", "129x96"], "even numbers; got 129x96"),
        (["--clip", "--frame-size", "8x8"], "56 to 4096 pixels a side"),
        (["--clip", "--frames", "2", "--scenes", "3"], "at least 1 frame for each scene, got 2 for 3"),
        (["--clip", "--fps", "0"], "1 to 240 frames a second, got 0"),
        (["--clip", "--still", "1.5"], "still share from 0 to 1, got 1.5"),
        (["--clip", "--count", "0"], "at least 1 clip, got 0"),
        (["--clip", "--seed", "-1"], "seed: expected 0 to"),
    ],
)
def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["scenes", "--output", str(tmp_path / "x"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_settings_are_checked_without_the_command() -> None:
    with pytest.raises(OptionError, match="even numbers"):
        ClipSettings(size=(95, 128))
