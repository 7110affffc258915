"""Sources besides single video files: pictures, folders, patterns, addresses, images, and several at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.errors import ImageError, ImageNotFoundError, OptionError
from t2d_runtime.results.formats.own_png import save_png
from t2d_runtime.streams import folders
from t2d_runtime.streams.frames import Frame
from t2d_runtime.streams.kinds import Kind, sources_of
from tests.streams.clips import decoded, frames_of, opened, outcomes_of, pictures, write_clip
from tests.streams.test_safety import Noting, Quiet, served

ONE, TWO, THREE = pictures(3)


def save(pixels: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("form", ["path", "text", "bytes", "file", "PIL", "array", "grey"])
def test_a_picture_in_any_form_is_one_frame(form: str, tmp_path: Path) -> None:
    path = save(ONE, tmp_path / "a.png")
    forms: dict[str, Any] = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "file": BytesIO(path.read_bytes()),
        "PIL": Image.fromarray(ONE),
        "array": ONE,
        "grey": ONE[:, :, 0],
    }
    given = forms[form]
    (frame,) = frames_of(given)
    assert (frame.index, frame.time_s) == (0, None)
    np.testing.assert_array_equal(frame.result.image[:, :, 0], ONE[:, :, 0])
    assert frame.file == (str(path) if form in ("path", "text") else None)


def test_a_path_is_never_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(ONE, tmp_path / "one.png").rename(tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    assert len(frames_of(Path("0"))) == 1
    assert len(frames_of("./0")) == 1
    with pytest.raises(ImageNotFoundError, match="1: no such file"):
        frames_of(Path("1"))
    assert [source.kind for source in sources_of(["0", 1, Path("0")])] == [Kind.CAMERA, Kind.CAMERA, Kind.PICTURE]


def test_a_folder_gives_its_pictures_and_videos_in_order(tmp_path: Path) -> None:
    save(ONE, tmp_path / "a.png")
    write_clip(tmp_path / "b.mp4", pictures(3))
    save(TWO, tmp_path / "c.jpg")
    save(TWO, tmp_path / ".hidden.png")
    save(TWO, tmp_path / "d.jpg").rename(tmp_path / "d")
    with (tmp_path / "c.labels.png").open("wb") as result:
        save_png(Image.fromarray(TWO), result)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "notes").write_text("no picture")
    (tmp_path / "deeper").mkdir()
    frames = frames_of(tmp_path)
    assert [(frame.index, Path(frame.file or "").name) for frame in frames] == [
        (0, "a.png"),
        (1, "b.mp4"),
        (2, "b.mp4"),
        (3, "b.mp4"),
        (4, "c.jpg"),
        (5, "d"),
    ]
    assert {frame.source for frame in frames} == {str(tmp_path)}
    assert [Path(frame.file or "").name for frame in frames_of(str(tmp_path / "*.[mp]*"))] == ["a.png", *["b.mp4"] * 3]


def test_results_of_this_program_are_no_input(segmenter: Segmenter, classes: ClassEmbeddings, tmp_path: Path) -> None:
    from t2d_runtime.results.formats.own_png import save_png

    save(ONE, tmp_path / "a.png")
    with (tmp_path / "a.labels.png").open("wb") as file:
        save_png(segmenter.segment(ONE, classes).label_image(), file)
    assert [Path(frame.file or "").name for frame in segmenter.stream(tmp_path, classes)] == ["a.png"]


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    assert str(outcomes_of(tmp_path)[0]) == f"{tmp_path} holds no picture or video"
    assert str(outcomes_of(str(tmp_path / "*.mp4"))[0]) == f"{tmp_path}/*.mp4 holds no picture or video"
    with pytest.raises(ImageNotFoundError, match=r"nowhere.mp4: no such file; expected a picture, a video file, "):
        frames_of("nowhere.mp4")


def test_a_damaged_picture_is_an_error_in_its_place(tmp_path: Path) -> None:
    save(ONE, tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    save(TWO, tmp_path / "c.png")
    first, error, last = outcomes_of(tmp_path)
    assert isinstance(error, ImageError)
    assert str(error).startswith(f"frame 1 of {tmp_path / 'b.png'}: ")
    assert isinstance(first, Frame)
    assert isinstance(last, Frame)
    assert last.index == 2


def test_a_watched_folder_gives_each_file_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "WATCH_INTERVAL_S", 0.02)
    save(ONE, tmp_path / "in" / "a.png")
    names = []
    with opened(tmp_path / "in", watch=True) as stream:
        for frame in stream:
            assert isinstance(frame, Frame)
            names.append((frame.index, Path(frame.file or "").name, tuple(frame.result.image[0, 0])))
            if len(names) == 1:
                save(TWO, tmp_path / "b.png").rename(tmp_path / "in" / "b.png")
            elif len(names) == 2:  # written anew
                save(THREE, tmp_path / "in" / "a.png")
            else:
                break
    assert names == [(0, "a.png", tuple(ONE[0, 0])), (1, "b.png", tuple(TWO[0, 0])), (2, "a.png", tuple(THREE[0, 0]))]


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "WATCH_INTERVAL_S", 0.02)
    content = save(ONE, tmp_path / "whole" / "a.png").read_bytes()
    (tmp_path / "in").mkdir()

    def write() -> None:
        with (tmp_path / "in" / "a.png").open("wb") as file:
            for start in range(0, len(content), 64):
                file.write(content[start : start + 64])
                file.flush()
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    with opened(tmp_path / "in", watch=True) as stream:
        writer.start()
        frame = next(stream)
    writer.join()
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(frame.result.image, ONE)


def test_watching_ends_when_it_is_closed_while_it_waits(tmp_path: Path) -> None:
    stream = opened(tmp_path, watch=True)
    threading.Timer(0.1, stream.close).start()
    assert list(stream) == []


def test_images_of_an_iterable(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    frames = list(segmenter.stream(iter([ONE, Image.fromarray(TWO)]), classes))
    assert [(frame.index, frame.time_s, frame.source) for frame in frames] == [
        (0, None, "the images"),
        (1, None, "the images"),
    ]
    np.testing.assert_array_equal(frames[1].result.label_map, segmenter.segment(TWO, classes).label_map)
    assert len(frames_of(np.stack([ONE, TWO]))) == len(frames_of([ONE, TWO])) == 2
    assert frames_of([]) == []


def test_what_an_iterable_raises_comes_after_its_images() -> None:
    def images() -> Iterator[Any]:
        yield ONE
        raise ZeroDivisionError("the camera's driver")

    stream = opened(images(), errors="yield")
    assert isinstance(next(stream), Frame)
    with pytest.raises(ZeroDivisionError, match="the camera's driver"):
        next(stream)


def test_an_image_of_another_shape_is_told_with_its_place() -> None:
    first, error = outcomes_of([ONE, ONE.astype(float)])
    assert isinstance(first, Frame)
    assert str(error).startswith("frame 1 of the images: expected an RGB array")


def test_several_sources_come_in_turn(clip: Path, tmp_path: Path) -> None:
    short = write_clip(tmp_path / "short.mkv", pictures(3))
    frames = frames_of([str(clip), short])
    assert [frame.source_number for frame in frames] == [0, 1, 0, 1, 0, 1, *[0] * 9]
    for number, path in enumerate((clip, short)):
        of_source = [frame.result.image for frame in frames if frame.source_number == number]
        np.testing.assert_array_equal(of_source, decoded(path))
    outcomes = outcomes_of([str(short), str(save(ONE, tmp_path / "a.png")), str(tmp_path / "*.avi")])
    assert [type(found).__name__ for found in outcomes] == ["Frame", "Frame", "ImageError", "Frame", "Frame"]


# Options


def test_every_and_max_fps_leave_frames_out(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", pictures(30), rate=30)
    assert [frame.index for frame in frames_of(path, every=7)] == [0, 7, 14, 21, 28]
    assert [frame.index for frame in frames_of(path, max_fps=10)] == list(range(0, 30, 3))
    assert len(frames_of(path, max_fps=20)) == 20
    assert len(frames_of(path, max_fps=30)) == len(frames_of(path, max_fps=100)) == 30
    assert [frame.index for frame in frames_of(path, every=2, max_fps=5)] == [0, 6, 12, 18, 24]


def test_max_fps_begins_anew_with_each_file(tmp_path: Path) -> None:
    for name in "ab":
        write_clip(tmp_path / f"{name}.mp4", pictures(6))
    assert [frame.index for frame in frames_of(tmp_path, max_fps=1)] == [0, 6]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"every": 0}, "every is 0, expected a whole number from 1"),
        ({"every": 1.5}, "every is 1.5, expected a whole number from 1"),
        ({"smoothing": 1.0}, "smoothing is 1.0, expected a number above 0 and up to 0.999"),
        ({"smoothing": True}, "smoothing is True, expected a number"),
        ({"motion_threshold": 0}, "motion_threshold is 0, expected a number above 0 and up to 255"),
        ({"max_fps": 0}, "max_fps is 0, expected a number above 0 and up to 1000"),
        ({"max_fps": float("nan")}, "max_fps is nan, expected a number above 0 and up to 1000"),
        ({"watch": True}, "watch has no effect without a folder"),
        ({"retries": 3}, "retries has no effect without a live source"),
        ({"errors": "skip"}, "errors is 'skip', expected one of"),
        ({"speed": 3}, r"unknown options \['speed'\]"),
        ({"threshold": 0.5}, "threshold has no effect without background=True"),
    ],
)
def test_options_without_effect_are_refused(
    segmenter: Segmenter, classes: ClassEmbeddings, clip: Path, options: Any, told: str
) -> None:
    with pytest.raises(OptionError, match=told):
        segmenter.stream(clip, classes, **options)


def test_max_fps_of_images_without_times_is_refused(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    with pytest.raises(OptionError, match="max_fps has no effect on images without times"):
        segmenter.stream([ONE], classes, max_fps=3)


@pytest.mark.parametrize("source", [None, True, 1.5, -1, "", "rtmp://host/stream", "udp://@:1234"])
def test_no_source_is_told(source: Any) -> None:
    with pytest.raises(OptionError, match="expected"):
        opened(source)


# Addresses


class Ranges(Quiet):
    """A server that gives parts of files, as servers of videos do."""

    def do_GET(self) -> None:  # noqa: N802
        content = (Path(self.directory) / self.path.lstrip("/")).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content[start:])


@pytest.mark.parametrize("handler", [Quiet, Ranges])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif"])
def test_a_video_at_an_address(name: str, handler: Any, tmp_path: Path) -> None:
    gif = {"codec": "gif", "pix_fmt": "rgb8"} if name.endswith("gif") else {}
    path = write_clip(tmp_path / name, pictures(5), **gif)  # type: ignore[arg-type]
    with served(partial(handler, directory=tmp_path)) as address:
        frames = frames_of(f"{address}/{name}")
    assert {frame.source for frame in frames} == {f"{address}/{name}"}
    np.testing.assert_array_equal([frame.result.image for frame in frames], [f.result.image for f in frames_of(path)])


def test_a_picture_at_an_address_is_read_as_segment_reads_it(tmp_path: Path) -> None:
    save(ONE, tmp_path / "a.jpg")
    with served(partial(Quiet, directory=tmp_path)) as address:
        (frame,) = frames_of(f"{address}/a.jpg")
    np.testing.assert_array_equal(frame.result.image, frames_of(tmp_path / "a.jpg")[0].result.image)


def test_an_address_without_a_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html>no video</html>" * 50)
    asked: list[str] = []
    with served(partial(Quiet, directory=tmp_path)) as address:
        (outcome,) = outcomes_of(f"{address}/page.html")
        assert str(outcome).startswith(f"{address}/page.html cannot be read as video: ")
    with served(type("Handler", (Noting,), {"asked": asked})) as address:
        (outcome,) = outcomes_of(f"{address.replace('//', '//user:secret@')}/nothing.mp4")
        assert str(outcome) == f"{address}/nothing.mp4 cannot be read: the server says 404 Not Found"
    (outcome,) = outcomes_of(f"{address}/gone.mp4")
    assert "Connection refused" in str(outcome)


class Login(Ranges):
    """Gives a file only to the user "me" with the password "p@ss"."""

    def do_GET(self) -> None:  # noqa: N802
        if self.headers.get("Authorization") != "Basic bWU6cEBzcw==":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()


def test_user_and_password_are_used_and_not_shown(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", pictures(4))
    with served(partial(Login, directory=tmp_path)) as address:
        frames = frames_of(f"{address.replace('//', '//me:p%40ss@')}/a.mp4")
        assert [frame.source for frame in frames] == [f"{address}/a.mp4"] * 4
        assert "401" in str(outcomes_of(f"{address}/a.mp4")[0])


class Camera(BaseHTTPRequestHandler):
    """Sends JPEG pictures one after the other, as many cameras do; each connection ends after five."""

    protocol_version = "HTTP/1.1"
    connections: list[int]

    def do_GET(self) -> None:
        self.connections.append(1)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for pixels in pictures(5):
                content = BytesIO()
                Image.fromarray(pixels).save(content, "JPEG")
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content.getvalue())}\r\n\r\n"
                self.wfile.write(head.encode() + content.getvalue() + b"\r\n")
                time.sleep(0.01)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def test_a_live_stream_at_an_address_is_opened_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2d_runtime.streams.live.FIRST_PAUSE_S", 0.01)
    connections: list[int] = []
    seen = 0
    with served(type("Handler", (Camera,), {"connections": connections})) as address:
        with opened(f"{address}/mjpeg") as stream:
            for frame in stream:
                assert isinstance(frame, Frame)
                assert frame.index >= seen
                seen, dropped = frame.index + 1, frame.dropped
                if len(connections) >= 4:
                    break
        assert "/mjpeg went away: " in caplog.text
        assert "; trying again in 0 s" in caplog.text
        assert dropped <= stream.dropped
        outcomes = outcomes_of(f"{address}/mjpeg", retries=0)
    frames = [found for found in outcomes if isinstance(found, Frame)]
    assert len(frames) + frames[-1].dropped >= 4
    assert frames[-1].time_s is not None
    assert frames[-1].time_s > 0
    assert "/mjpeg went away after frame" in str(outcomes[-1])
