"""`t2d video`: outputs, progress, exit statuses, and an end by Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2d_runtime.cli import main
from tests.conftest import hear_interrupts
from tests.streams.clips import decoded, pictures, write_clip

WORDS = ("--classes", "sky,grass,person,road", "--backend", "onnxruntime", "--threads", "1")


def video(bundle: Path, *arguments: object) -> int:
    return main(["video", str(bundle), *map(str, arguments), *WORDS])


def test_a_video_becomes_an_overlay_of_all_frames(
    exported_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert video(exported_bundle, clip, "--output", out) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{clip}: 12 frames in ")
    assert first.endswith(" frames a second")
    assert second == f"    {out}"
    assert len(decoded(out)) == 12
    assert video(exported_bundle, clip, "--output", out, "--every", 5, "--background") == 0  # its own file
    assert len(decoded(out)) == 3


def test_a_picture_becomes_a_video_of_one_frame(
    exported_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "photo.png")
    (tmp_path / "0").write_bytes((tmp_path / "photo.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert video(exported_bundle, "photo.png") == 0
    assert len(decoded(tmp_path / "output" / "photo.mp4")) == 1
    assert video(exported_bundle, "./0") == 0  # a file, and no camera
    assert len(decoded(tmp_path / "output" / "0.mp4")) == 1


def test_all_formats_of_several_sources(exported_bundle: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    other = write_clip(tmp_path / "deeper" / "clip.mkv", pictures(2))
    formats = "overlay,side-by-side,jsonl,png,json"
    assert video(exported_bundle, clip, other, "--output", tmp_path / "out", "--format", formats) == 0
    names = ["clip", "clip-2", "clip-2.jsonl", "clip-2.mp4", "clip-2.side-by-side.mp4"]
    names += ["clip.jsonl", "clip.mp4", "clip.side-by-side.mp4"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert len(list((tmp_path / "out" / "clip-2").iterdir())) == 4
    lines = (tmp_path / "out" / "clip.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines[1:]] == list(range(12))


def test_many_sources_are_counted_in_the_last_line(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [write_clip(tmp_path / f"{number}.mp4", pictures(1)) for number in range(6)]
    assert video(exported_bundle, *clips, "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith("6 sources: 6 frames in ")
    assert video(exported_bundle, clips[0], "--output", tmp_path / "one") == 0
    assert capsys.readouterr().out.startswith(f"{clips[0]}: 1 frame in ")


def test_raw_frames_on_standard_output(exported_bundle: Path, clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "t2d_runtime", "video", str(exported_bundle), str(clip), "--output", "-", *WORDS]
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    assert len(done.stdout) == 12 * 48 * 64 * 3
    assert b"12 frames in " in done.stderr


def test_a_file_that_ends_early_is_status_1_and_what_is_there_is_written(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_clip(tmp_path / "cut.mkv", pictures(50))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert video(exported_bundle, path, "--output", tmp_path / "out.mp4") == 1
    told = capsys.readouterr()
    assert "cut.mkv ends early" in told.err
    assert "; 1 failed" in told.out
    assert 5 < len(decoded(tmp_path / "out.mp4")) < 50


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere.mp4",), "nowhere.mp4: no such file"),
        (("rtmp://host/x",), "rtmp:// is no source"),
        (("CLIP", "--format", "wmv"), "unknown output format 'wmv'"),
        (("CLIP", "--output", "CLIP"), "is an input of this run"),
        (("CLIP", "CLIP", "--output", "a.mp4"), "is one file for 2 sources; give a folder"),
        (
            ("CLIP", "--output", "a.avi"),
            "no video of the suffix .avi is written; expected .mp4, .m4v, .mov, .mkv, .webm",
        ),
        (("CLIP", "--output", "a.gif", "--format", "png"), "no video of the suffix .gif is written"),
        (("CLIP", "--output", "a.mp4", "--format", "jsonl"), "is one video, expected one of --format overlay"),
        (("CLIP", "--output", "-", "--format", "jsonl"), "--output - writes raw frames"),
        (("CLIP", "--fps", "5"), "--fps has no effect but on videos made of pictures"),
        (("CLIP", "--no-sound", "--format", "jsonl"), "--no-sound has no effect"),
        (("CLIP", "--output", "-", "--overwrite"), "--overwrite has no effect"),
        (("CLIP", "--watch"), "watch has no effect without a folder"),
        (("CLIP", "--threshold", "0.5"), "--threshold has no effect without --background"),
        (("EMPTY",), "is empty, expected a video"),
        (("CLIP", "--postprocess", "gpu"), "postprocess is 'gpu', expected one of ['host', 'device']"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    exported_bundle: Path,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mp4").touch()
    names: dict[str, Any] = {"CLIP": clip, "EMPTY": tmp_path / "empty.mp4"}
    before = clip.read_bytes()
    assert video(exported_bundle, *(names.get(text, text) for text in arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("t2d: error: ")
    assert told in line
    assert clip.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["empty.mp4"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_a_playable_file(
    exported_bundle: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """A watched folder has no end, as a camera has none."""
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "clip.mp4", pictures(12))
    out = tmp_path / "out.mp4"
    arguments = [str(exported_bundle), str(tmp_path / "in"), "--watch", "--output", str(out), *WORDS]
    command = [sys.executable, "-m", "t2d_runtime", "video", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    ) as running:
        deadline = time.monotonic() + 120
        while not any(path.suffix == "" or path.name.startswith(".out") for path in tmp_path.glob(".out*")):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(number)
        try:
            said, complained = running.communicate(timeout=120)
        finally:
            running.kill()  # where it went on
    assert running.returncode == status
    assert complained.splitlines()[-1] == f"t2d: {'interrupted' if number == signal.SIGINT else 'terminated'}"
    assert said == "" or " frame" in said  # nothing where no frame had come back yet
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.mp4"]
    assert 1 <= len(decoded(out)) <= 12


def test_pictures_become_a_video_at_the_given_rate(exported_bundle: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "in").mkdir()
    for number, pixels in enumerate(pictures(3)):
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    assert video(exported_bundle, tmp_path / "in", "--output", tmp_path / "out.mp4", "--fps", 2) == 0
    import av

    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx([0, 0.5, 1])


def test_labels_of_a_cut_scene_are_those_of_the_picture(exported_bundle: Path, clip: Path, tmp_path: Path) -> None:
    from PIL import Image

    assert video(exported_bundle, clip, "--output", tmp_path / "out", "--format", "png", "--every", 11) == 0
    Image.fromarray(decoded(clip)[11]).save(tmp_path / "11.png")
    arguments = ["segment", str(exported_bundle), str(tmp_path / "11.png"), "--output", str(tmp_path / "one")]
    assert main([*arguments, "--format", "png", *WORDS]) == 0
    seen, expected = (
        np.asarray(Image.open(path))
        for path in (tmp_path / "out" / "clip" / "000011.labels.png", tmp_path / "one" / "11.labels.png")
    )
    np.testing.assert_array_equal(seen, expected)
