"""Video files: every container and codec, times, damage, colours, rotation, sizes that change."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmenter, T2DError
from t2d_runtime.errors import ImageError
from t2d_runtime.streams.frames import Frame
from tests.streams.clips import decoded, frames_of, outcomes_of, pictures, write_clip

CONTAINERS = (
    *("mp4", "mov", "matroska", "webm", "avi", "mpegts", "vob", "flv", "asf", "ogg", "gif", "apng", "mxf", "nut"),
    *("yuv4mpegpipe", "ivf", "h264", "hevc", "mjpeg", "3gp", "dv", "rm", "m4v", "swf", "h263", "h261"),
    *("mpeg1video", "mpeg2video"),
)

NOT_WRITTEN = ("av1", "libsvtav1", "vnull", "wrapped_avframe")
"""Encoders that are left out, besides those of hardware: SVT-AV1, under two names, whose threads take the priority of
real time where they may, and two that code nothing."""


def encoders() -> list[str]:
    found = []
    for name in sorted(av.codecs_available):
        if name.endswith(("_qsv", "_nvenc", "_amf", "_v4l2m2m")) or name in NOT_WRITTEN:
            continue
        try:
            codec = av.Codec(name, "w")
        except ValueError:
            continue
        if codec.type == "video":
            found.append(name)
    return found


def written(container: str, codec: str) -> bytes | None:
    """Four frames, or None where this container does not hold this codec."""
    formats = [found.name for found in av.Codec(codec, "w").video_formats or ()]
    pix_fmt = "yuv420p" if not formats or "yuv420p" in formats else formats[0]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else pix_fmt
    size = (576, 720) if codec == "dvvideo" else (144, 176) if codec in ("h261", "h263") else (48, 64)
    file = BytesIO()
    try:
        write_clip(file, pictures(4, size), codec=codec, format=container, pix_fmt=pix_fmt)
        decoded(BytesIO(file.getvalue()))
    except (av.FFmpegError, ValueError, IndexError):
        return None
    return file.getvalue()


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_codec_of_a_container_gives_its_frames(container: str, tmp_path: Path) -> None:
    read = 0
    for codec in encoders():
        content = written(container, codec)
        if content is None:
            continue
        path = tmp_path / f"clip.{container}"
        path.write_bytes(content)
        frames = frames_of(path)
        expected = decoded(BytesIO(content))
        assert [frame.index for frame in frames] == list(range(len(expected))), codec
        times = [frame.time_s for frame in frames]
        assert times == sorted(times), codec  # type: ignore[type-var]
        assert times[0] == pytest.approx(0, abs=0.05), codec
        assert frames[-1].result.image.shape == expected[-1].shape, codec
        read += 1
    assert read > 0


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_av1_is_read(container: str, tmp_path: Path) -> None:
    """Coded by Pillow as an AVIF of several pictures, and copied into a video."""
    first, *others = map(Image.fromarray, pictures(4))
    first.save(tmp_path / "a.avif", save_all=True, append_images=others, speed=10)
    path = tmp_path / f"a.{container}"
    with av.open(str(tmp_path / "a.avif")) as found, av.open(str(path), "w", format=container) as copy:
        source = found.streams.video[-1]
        stream = copy.add_mux_stream("av1", rate=25, width=source.width, height=source.height)
        for packet in found.demux(source):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    expected = decoded(path)
    assert len(expected) == 4
    with av.open(str(path)) as written_:
        assert written_.streams.video[0].codec_context.name in ("libdav1d", "av1")
    np.testing.assert_array_equal([frame.result.image for frame in frames_of(path)], expected)


def test_labels_are_those_of_segment_on_every_frame(segmenter: Segmenter, classes: ClassEmbeddings, clip: Path) -> None:
    frames = list(segmenter.stream(clip, classes, background=True))
    images = decoded(clip)
    assert len(frames) == len(images) == 12
    for frame, image in zip(frames, images, strict=True):
        expected = segmenter.segment(image, classes, background=True)
        np.testing.assert_array_equal(frame.result.image, image)
        np.testing.assert_array_equal(frame.result.label_map, expected.label_map)
        assert frame.result.class_names == expected.class_names
    assert [(frame.index, frame.time_s, frame.source, frame.file) for frame in frames] == [
        (index, pytest.approx(index / 25), str(clip), str(clip)) for index in range(12)
    ]


def test_times_are_the_time_stamps_of_a_varying_rate(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.52, 3.0]
    path = write_clip(tmp_path / "varying.mkv", pictures(5), times=times)
    assert [frame.time_s for frame in frames_of(path)] == pytest.approx(times)


def test_a_video_that_begins_later_begins_at_zero(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "late.ts", pictures(12), format="mpegts")
    with av.open(str(path)) as container:
        assert container.start_time > 0
    assert [frame.time_s for frame in frames_of(path)] == pytest.approx([0.04 * index for index in range(12)])


@pytest.mark.parametrize(
    ("name", "options"),
    [("front.mp4", {"movflags": "+faststart"}), ("clip.mkv", {}), ("clip.ts", {}), ("clip.avi", {})],
)
def test_a_file_cut_in_the_middle_gives_what_is_there_and_an_error(
    name: str, options: dict[str, str], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 48, 64, 3), np.uint8)
    whole = tmp_path / name
    with av.open(str(whole), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        for pixels in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    content = whole.read_bytes()
    assert len(frames_of(whole)) == 50
    whole.write_bytes(content[: len(content) // 2])
    *frames, last = outcomes_of(whole)
    assert 10 < len(frames) < 40
    assert all(isinstance(frame, Frame) for frame in frames)
    if name.endswith(".ts"):  # it does not say how long it should be
        return
    assert isinstance(last, ImageError)
    assert str(last).startswith(f"{whole}")
    with pytest.raises(ImageError):
        frames_of(whole)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_last_frame_that_is_held_is_no_cut(name: str, tmp_path: Path) -> None:
    """As in recordings of a screen."""
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        packets = [found for pixels in pictures(4) for found in stream.encode(av.VideoFrame.from_ndarray(pixels))]
        packets += stream.encode()
        packets[-1].duration = 75
        container.mux(packets)
    with av.open(str(path)) as container:
        assert container.duration > 3_000_000
    assert len(frames_of(path)) == 4


def test_an_animation_that_holds_its_last_picture_is_no_cut(tmp_path: Path) -> None:
    first, *others = map(Image.fromarray, pictures(4))
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=[100, 100, 100, 3000])
    assert [frame.time_s for frame in frames_of(tmp_path / "a.gif")] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_video_whose_times_begin_late_is_no_cut(tmp_path: Path) -> None:
    """Matroska says when it ends, not how long it lasts."""
    path = write_clip(tmp_path / "late.mkv", pictures(3), times=[100.0, 100.04, 100.08])
    assert [frame.time_s for frame in frames_of(path)] == pytest.approx([0, 0.04, 0.08])


def test_a_video_without_its_beginning_is_one_error(tmp_path: Path) -> None:
    """Its only key frame is lost, so that none of its frames can be decoded."""
    path = write_clip(tmp_path / "a.ts", pictures(30, (96, 128)), format="mpegts")
    path.write_bytes(path.read_bytes()[3000:])
    (outcome,) = outcomes_of(path)
    assert isinstance(outcome, ImageError)
    assert "frame 0 is damaged" in str(outcome)


def test_damaged_frames_are_errors_in_their_place(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mov", pictures(12), codec="png", pix_fmt="rgb24")
    content = path.read_bytes()
    place = content.index(b"IHDR", len(content) // 2)
    path.write_bytes(content[:place] + b"XXXX" + content[place + 4 :])
    outcomes = outcomes_of(path)
    errors = [found for found in outcomes if isinstance(found, T2DError)]
    assert len(outcomes) == 12
    assert [str(error) for error in errors] == [
        f"{path}: frame {outcomes.index(errors[0])} is damaged: it is no video, or damaged"
    ]
    with pytest.raises(ImageError, match="is damaged"):
        frames_of(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty, expected a video"),
        (b"no video at all\n" * 40, "cannot be read as video: it is no video, or damaged"),
        (bytes(range(256)) * 40, "cannot be read as video: it is no video, or damaged"),
    ],
)
def test_other_files_are_told(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    (outcome,) = outcomes_of(path)
    assert isinstance(outcome, ImageError)
    assert str(outcome) == f"{path} {told}"


@pytest.mark.parametrize(
    ("name", "sound"), [("a.mp4", "aac"), ("a.mp3", "mp3"), ("a.mkv", "flac"), ("a.wav", "pcm_s16le")]
)
def test_sound_alone_is_told(name: str, sound: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / name, [], sound=sound)
    (outcome,) = outcomes_of(path)
    assert str(outcome) == f"{path} holds no video, only audio; expected a video"


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.gif", pictures(5), codec="gif", pix_fmt="rgb8", rate=10)
    assert [frame.time_s for frame in frames_of(path)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


# Pixels


def raw_frame(values: tuple[int, ...], pix_fmt: str, size: tuple[int, int] = (32, 32)) -> av.VideoFrame:
    frame = av.VideoFrame(size[1], size[0], pix_fmt)
    dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(np.full(plane.buffer_size // np.dtype(dtype).itemsize, value, dtype).tobytes())
    return frame


def clip_of(frame: av.VideoFrame, path: Path, codec: str = "ffv1", **attributes: Any) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


MPEG, JPEG = 1, 2  # AVColorRange
RED_601, RED_709, RED_2020 = (81, 90, 240), (63, 102, 240), (74, 97, 240)


@pytest.mark.parametrize(
    ("values", "pix_fmt", "size", "matrix", "range_", "expected"),
    [
        ((235, 128, 128), "yuv420p", (32, 32), 6, MPEG, (255, 255, 255)),
        ((16, 128, 128), "yuv420p", (32, 32), 6, MPEG, (0, 0, 0)),
        ((255, 128, 128), "yuv420p", (32, 32), 6, JPEG, (255, 255, 255)),
        ((16, 128, 128), "yuv420p", (32, 32), 6, JPEG, (16, 16, 16)),
        ((940, 512, 512), "yuv420p10le", (32, 32), 6, MPEG, (255, 255, 255)),
        ((64, 512, 512), "yuv422p10le", (32, 32), 1, MPEG, (0, 0, 0)),
        ((1023, 512, 512), "yuv444p10le", (32, 32), 1, JPEG, (255, 255, 255)),
        ((3760, 2048, 2048), "yuv420p12le", (32, 32), 9, MPEG, (255, 255, 255)),
        (RED_601, "yuv420p", (32, 32), 6, MPEG, (255, 0, 0)),
        (RED_601, "yuv420p", (32, 32), 5, MPEG, (255, 0, 0)),
        (RED_709, "yuv420p", (32, 32), 1, MPEG, (255, 0, 0)),
        (RED_2020, "yuv420p", (32, 32), 9, MPEG, (255, 0, 0)),
        (RED_601, "yuv420p", (480, 640), 2, MPEG, (255, 0, 0)),  # no tag
        (RED_709, "yuv420p", (720, 1280), 2, MPEG, (255, 0, 0)),
        ((200,), "gray", (32, 32), 2, JPEG, (200, 200, 200)),
    ],
)
def test_colours_are_those_of_the_tags(
    values: tuple[int, ...],
    pix_fmt: str,
    size: tuple[int, int],
    matrix: int,
    range_: int,
    expected: tuple[int, int, int],
    tmp_path: Path,
) -> None:
    path = clip_of(raw_frame(values, pix_fmt, size), tmp_path / "a.mkv", colorspace=matrix, color_range=range_)
    (frame,) = frames_of(path)
    seen = frame.result.image[size[0] // 2, size[1] // 2].astype(int)
    assert np.abs(seen - expected).max() <= 3, seen


def test_transparency_is_white(tmp_path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 4), np.uint8), "rgba")
    path = clip_of(frame, tmp_path / "a.mov", codec="png")
    assert (frames_of(path)[0].result.image == 255).all()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_stand_upright(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    """As FFmpeg's own players show it: the matrix turns the picture counterclockwise, after mirroring it."""
    path = tmp_path / "a.mp4"
    corner = np.zeros((32, 64, 3), np.uint8)
    corner[:16, :16] = (255, 0, 0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 32
        turns = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}
        a, b, c, d = turns[degrees]
        if mirrored:
            a, b = -a, -b
        one = 1 << 16
        stream.set_display_matrix([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(corner, "rgb24")))
        container.mux(stream.encode())
    (frame,) = frames_of(path)
    expected = np.rot90(corner[:, ::-1] if mirrored else corner, degrees // 90)
    assert frame.result.image.shape == expected.shape
    assert np.abs(frame.result.image.astype(int) - expected).mean() < 20


@pytest.mark.parametrize(("turned", "expected"), [(False, Fraction(16, 11)), (True, Fraction(11, 16))])
def test_pixels_that_are_not_square_are_told(turned: bool, expected: Fraction, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        if turned:
            stream.set_display_matrix([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures(1)[0])))
        container.mux(stream.encode())
    assert [frame.sample_aspect_ratio for frame in frames_of(path)] == [expected]
    assert [frame.sample_aspect_ratio for frame in frames_of(pictures(1))] == [1]


def test_a_size_that_changes_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "two.h264"
    parts = [write_clip(BytesIO(), pictures(3, size), format="h264").getvalue() for size in ((48, 64), (96, 128))]
    path.write_bytes(b"".join(parts))
    assert [frame.result.image.shape[:2] for frame in frames_of(path)] == [(48, 64)] * 3 + [(96, 128)] * 3


def test_the_limit_of_pixels_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", pictures(2, (96, 128)))
    monkeypatch.setenv("T2D_MAX_PIXELS", "10000")
    (outcome,) = outcomes_of(path)
    assert "128 x 96 pixels, more than the limit of 10000" in str(outcome)
    parts = [write_clip(BytesIO(), pictures(3, size), format="h264").getvalue() for size in ((48, 64), (96, 128))]
    (tmp_path / "two.h264").write_bytes(b"".join(parts))
    outcomes = outcomes_of(tmp_path / "two.h264")
    assert [found.result.image.shape[0] for found in outcomes if isinstance(found, Frame)] in ([48], [48] * 3)
    assert isinstance(outcomes[-1], ImageError)


def interlaced(path: Path, pixels: list[np.ndarray[Any, Any]], codec: str) -> Path:
    """Each frame's even lines are of one picture, its odd lines of the next."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"flags": "+ildct+ilme", "field_order": "tt"})
        stream.height, stream.width, stream.pix_fmt = *pixels[0].shape[:2], "yuv420p"
        stream.codec_context.bit_rate = 5_000_000
        for first, second in zip(pixels[::2], pixels[1::2], strict=True):
            woven = first.copy()
            woven[1::2] = second[1::2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(woven, "rgb24")))
        container.mux(stream.encode())
    return path


def test_interlaced_frames_become_whole_pictures(tmp_path: Path) -> None:
    moving = []
    for step in range(16):
        pixels = np.full((96, 128, 3), 60, np.uint8)
        pixels[:, 8 + 6 * step : 24 + 6 * step] = 220
        moving.append(pixels)
    path = interlaced(tmp_path / "a.mpg", moving, "mpeg2video")
    with av.open(str(path)) as container:
        combed = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0) if frame.interlaced_frame]
    assert len(combed) == 8
    frames = frames_of(path)
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time_s for frame in frames] == pytest.approx([0.04 * index for index in range(8)], abs=0.001)

    def comb(image: Any) -> float:
        return float(np.abs(np.diff(image.astype(int), axis=0)).mean())

    for frame, before in zip(frames, combed, strict=True):
        assert comb(frame.result.image) < 0.25 * comb(before)
