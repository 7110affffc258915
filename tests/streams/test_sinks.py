"""Sinks: videos with their sound, label frames, JSON Lines, raw frames, and what is left after an interrupt."""

from __future__ import annotations

import json
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.errors import OptionError, OutputError
from t2d_runtime.storage.own_files import is_own
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.sinks.json_lines import JsonLinesSink
from t2d_runtime.streams.sinks.others import CallbackSink, FrameFilesSink, RawVideoSink
from t2d_runtime.streams.sinks.video import ENCODINGS, VideoSink
from tests.streams.clips import NoModel, decoded, frames_of, opened, pictures, write_clip


def probe(path: Path) -> dict[str, Any]:
    """Facts about a video file, and its frames' times."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        facts: dict[str, Any] = {
            "size": (video.height, video.width),
            "codec": video.codec_context.name,
            "colours": (video.codec_context.colorspace, video.codec_context.color_range),
            "sounds": [stream.codec_context.name for stream in container.streams.audio],
        }
        times: dict[str, list[float]] = {"video": [], "audio": []}
        for packet in container.demux():
            times[packet.stream.type] += [float(frame.time) for frame in packet.decode()]  # type: ignore[union-attr]
        return facts | times


@pytest.mark.parametrize("suffix", ENCODINGS)
def test_a_video_of_overlays_has_the_frames_times_and_size(
    suffix: str, segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoSink(path) as sink:
        frames = list(segmenter.stream(clip, classes, sinks=[sink]))
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    facts = probe(path)
    assert facts["size"] == (48, 64)
    assert facts["colours"] == (1, 1)
    assert facts["video"] == pytest.approx([index / 25 for index in range(12)], abs=0.001)
    for frame, seen in zip(frames, frames_of(path), strict=True):
        overlay = np.asarray(frame.result.overlay(legend=False)).astype(int)
        assert np.abs(overlay - seen.result.image).mean() < 12


@pytest.mark.parametrize("suffix", ENCODINGS)
def test_pixels_that_are_not_square_stay_so(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    with av.open(str(source), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures(1)[0])))
        container.mux(stream.encode())
    path = tmp_path / f"out{suffix}"
    with VideoSink(path) as sink:
        frames_of(source, sinks=[sink])
    with av.open(str(path)) as written:
        video = written.streams.video[0]
        assert video.height == 48
        assert video.width * (video.sample_aspect_ratio or 1) == 128


def test_the_colours_written_are_those_read(tmp_path: Path) -> None:
    red = np.full((48, 64, 3), (200, 30, 60), np.uint8)
    with VideoSink(tmp_path / "a.mp4") as sink:
        frames = frames_of([red, red], segmenter=NoModel())
        for frame in frames:
            sink.write(frame)
    expected = np.asarray(frames[0].result.overlay(legend=False))[20, 20].astype(int)
    assert np.abs(frames_of(tmp_path / "a.mp4")[0].result.image[20, 20] - expected).max() <= 4


def test_side_by_side_is_the_frame_and_its_labels(
    segmenter: Segmenter, classes: ClassEmbeddings, tmp_path: Path
) -> None:
    (frame,) = segmenter.stream(pictures(1)[0], classes)
    with VideoSink(tmp_path / "a.mkv", view="side-by-side") as sink:
        sink.write(frame)
    (seen,) = decoded(tmp_path / "a.mkv")
    assert seen.shape == (48, 128, 3)
    assert np.abs(seen[:, :64].astype(int) - frame.result.image).mean() < 12


def test_a_varying_rate_is_kept_and_frames_without_times_have_the_given_rate(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.52, 3.0]
    source = write_clip(tmp_path / "varying.mkv", pictures(5), times=times)
    with VideoSink(tmp_path / "a.mp4") as sink:
        frames_of(source, sinks=[sink])
    assert probe(tmp_path / "a.mp4")["video"] == pytest.approx(times, abs=0.001)
    with VideoSink(tmp_path / "b.mp4", fps=5) as sink:
        frames_of(pictures(3), sinks=[sink])
    assert probe(tmp_path / "b.mp4")["video"] == pytest.approx([0, 0.2, 0.4])


def test_odd_and_changing_sizes(tmp_path: Path) -> None:
    images = [*pictures(1, (33, 47)), *pictures(1, (66, 40)), *pictures(1, (1, 1))]
    with VideoSink(tmp_path / "a.mp4") as sink:
        frames_of(images, sinks=[sink])
    assert [seen.shape for seen in decoded(tmp_path / "a.mp4")] == [(34, 48, 3)] * 3


@pytest.mark.parametrize(
    ("source", "sound", "suffix", "expected"),
    [
        (".mp4", "aac", ".mp4", "aac"),
        (".mkv", "aac", ".mp4", "aac"),
        (".mkv", "libopus", ".mkv", "opus"),
        (".mkv", "libopus", ".webm", "opus"),
        (".mov", "pcm_s16le", ".mkv", "pcm_s16le"),
        (".mp4", "aac", ".webm", "opus"),
        (".avi", "libmp3lame", ".mov", "mp3float"),
    ],
)
def test_the_sound_is_kept(source: str, sound: str, suffix: str, expected: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / f"in{source}", pictures(25), sound=sound)
    path = tmp_path / f"out{suffix}"
    with VideoSink(path) as sink:
        frames_of(clip, sinks=[sink])
    facts = probe(path)
    assert facts["sounds"] == [expected]
    assert facts["audio"][0] == pytest.approx(0, abs=0.06)
    assert facts["audio"][-1] == pytest.approx(1.0, abs=0.08)
    assert len(facts["video"]) == 25


def test_pictures_have_no_sound(tmp_path: Path) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    with VideoSink(tmp_path / "a.mp4") as sink:
        frames_of(tmp_path / "a.png", sinks=[sink])
    facts = probe(tmp_path / "a.mp4")
    assert len(facts["video"]) == 1
    assert facts["sounds"] == []


def test_the_sound_is_kept_however_the_path_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "in.mp4", pictures(5), sound="aac")
    monkeypatch.chdir(tmp_path)
    with VideoSink("out.mp4") as sink:
        frames_of("./in.mp4", sinks=[sink])
    assert probe(tmp_path / "out.mp4")["sounds"] == ["aac"]


def test_sound_is_left_out_where_asked_and_cut_with_the_video(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", pictures(50), sound="aac")
    with VideoSink(tmp_path / "silent.mp4", sound=False) as sink:
        frames_of(clip, sinks=[sink])
    assert probe(tmp_path / "silent.mp4")["sounds"] == []
    with VideoSink(tmp_path / "short.mp4") as sink, opened(clip, sinks=[sink]) as stream:
        while sum(1 for _ in zip(range(10), stream, strict=False)) < 10:
            pass
    facts = probe(tmp_path / "short.mp4")
    assert 10 <= len(facts["video"]) < 50
    assert facts["audio"][-1] < facts["video"][-1] + 0.1


@pytest.mark.parametrize("ending", [KeyboardInterrupt, ZeroDivisionError])
def test_what_was_finished_is_playable_after_an_interrupt(
    ending: type[BaseException], clip: Path, tmp_path: Path
) -> None:
    def run() -> None:
        with (
            VideoSink(tmp_path / "a.mp4") as video,
            JsonLinesSink(tmp_path / "a.jsonl") as lines,
            FrameFilesSink(tmp_path / "frames") as files,
            opened(clip, sinks=[video, lines, files]) as stream,
        ):
            for seen, _ in enumerate(stream, start=1):
                if seen == 5:
                    raise ending

    with pytest.raises(ending):
        run()
    count = len(decoded(tmp_path / "a.mp4"))
    assert 5 <= count <= 12
    # Each sink may have had a frame that those after it had not begun with.
    assert 5 <= len((tmp_path / "a.jsonl").read_text().splitlines()) - 1 <= count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.mp4", "frames"]


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "a.mp4"), JsonLinesSink(tmp_path / "a.jsonl"), FrameFilesSink(tmp_path / "frames"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.mov", "a.jsonl"])
def test_only_this_program_s_own_files_are_replaced(name: str, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / name

    def sink(**options: Any) -> Any:
        return (JsonLinesSink if name.endswith("jsonl") else VideoSink)(path, **options)

    for _ in range(2):
        with sink() as own:
            frames_of(clip, sinks=[own])
        assert is_own(path)
    write_clip(path, pictures(3), codec="libvpx-vp9" if name == "a.webm" else "libx264", format="matroska")
    foreign = path.read_bytes()
    with pytest.raises(OutputError, match="exists and is not a result of t2d-runtime"):
        sink()
    assert path.read_bytes() == foreign
    with sink(overwrite=True) as own:
        frames_of(clip, sinks=[own])
    assert is_own(path)


def test_a_full_disk_leaves_nothing(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from t2d_runtime.streams.sinks import video

    real = video.own_file

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    from contextlib import contextmanager

    @contextmanager
    def full(path: Path, **options: Any) -> Any:
        with real(path, **options) as file:
            yield Full(file)

    monkeypatch.setattr(video, "own_file", full)
    with (
        pytest.raises(OutputError, match=r"cannot write .*a\.mp4: No space left on device; free some space"),
        VideoSink(tmp_path / "a.mp4") as sink,
    ):
        frames_of(clip, sinks=[sink])
    assert list(tmp_path.iterdir()) == []


def test_label_frames_are_those_of_segment(
    segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, tmp_path: Path
) -> None:
    with FrameFilesSink(tmp_path, "png,json") as sink:
        frames = list(segmenter.stream(clip, classes, sinks=[sink], every=5))
    names = [f"{index:06d}{suffix}" for index in (0, 5, 10) for suffix in (".json", ".labels.png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for frame in frames:
        seen = np.asarray(Image.open(tmp_path / f"{frame.index:06d}.labels.png"))
        np.testing.assert_array_equal(seen, frame.result.label_map)


def test_json_lines(segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, tmp_path: Path) -> None:
    with JsonLinesSink(tmp_path / "a.jsonl") as sink:
        frames = list(segmenter.stream(clip, classes, sinks=[sink]))
    head, *lines = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert head["class_names"] == list(classes.names)
    assert head["settings"]["background"] is False
    assert head["origin"]["engine"] == segmenter.engine_description
    assert head["origin"]["model_digest"] == segmenter.model_digest
    assert [(line["index"], line["time_s"]) for line in lines] == [(i, pytest.approx(i / 25)) for i in range(12)]
    assert [line["labels"] for line in lines] == [frame.result.summary()["labels"] for frame in frames]
    assert {line["source"] for line in lines} == {str(clip)}


def test_raw_frames_and_a_function(clip: Path) -> None:
    file, seen = BytesIO(), []
    frames = frames_of(clip, sinks=[RawVideoSink(file), CallbackSink(seen.append)])
    assert seen == frames
    raw = np.frombuffer(file.getvalue(), np.uint8).reshape(12, 48, 64, 3)
    np.testing.assert_array_equal(raw, [np.asarray(frame.result.overlay(legend=False)) for frame in frames])


def test_wrong_options_of_sinks_are_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"a\.wmv is no name of a video that is written, expected \.mp4, "):
        VideoSink(tmp_path / "a.wmv")
    with pytest.raises(OptionError, match="view is 'labels', expected one of"):
        VideoSink(tmp_path / "a.mp4", view="labels")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="fps is 0, expected"):
        VideoSink(tmp_path / "a.mp4", fps=0)
    with pytest.raises(OptionError, match="unknown output format 'wmv'"):
        FrameFilesSink(tmp_path, "wmv")


def test_frames_show_themselves(clip: Path) -> None:
    frame = frames_of(clip)[3]
    assert repr(frame).startswith(f"Frame(3 of '{clip}' at 0.120 s: Segmentation(")
    assert isinstance(frame, Frame)
