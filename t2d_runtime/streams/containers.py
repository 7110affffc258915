"""Opens video through PyAV, with lists of the only protocols and formats that FFmpeg may use for each kind of source.

FFmpeg has formats that are lists of other files or addresses (playlists, concatenations, session descriptions). A
crafted file of such a kind would make the program read the user's other files, or ask other machines. These formats are
on no list here, and a local file is opened by Python, so that FFmpeg itself opens nothing.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from t2d_runtime.device.install import needs_extra
from t2d_runtime.errors import ImageError, T2DError
from t2d_runtime.image.sizes import check_size, pixel_limit

if TYPE_CHECKING:
    from types import ModuleType

    from av.container import InputContainer
    from av.video.stream import VideoStream

FILE_FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,flv,asf,ogg,gif,apng,"
    "mjpeg,mxf,nut,yuv4mpegpipe,dv,gxf,vc1,vc1test,rm,dirac,cavsvideo,avs2,avs3,swf,amv,wtv,nuv,smjpeg,jpegxl_anim"
)
"""Formats of video files that hold all they need. HLS, DASH, concat, image2, SDP and other lists of files are left
out."""

ADDRESS_FORMATS = f"{FILE_FORMATS},mpjpeg"
"""Formats read from http and https: those of files, and the pictures that cameras send one after the other."""

SOUND_FORMATS = "mp3,wav,flac,aac,aiff,ac3,eac3,amr,w64,caf"
"""Formats of sound alone: they are opened only to say so."""

NO_PROTOCOL = "none"
"""The name of no protocol: FFmpeg opens nothing by itself."""

READ_BUFFER = 256 * 2**10
"""Bytes that Python reads at a time for FFmpeg."""

OPEN_TIMEOUT_S, READ_TIMEOUT_S = 15.0, 10.0
"""Seconds that a source on the network may take to answer, and to give the next frame."""


def video_module() -> ModuleType:
    """The module `av`. Raises MissingPackageError with the command that installs it."""
    with needs_extra("video"):
        import av
        import av.filter
        import av.sidedata.sidedata
        import av.video.reformatter
    return av


@contextmanager
def opened_file(path: Path, name: str) -> Iterator[InputContainer]:
    """A video file, open. Raises ImageError."""
    with ExitStack() as stack, _told(name):
        file = stack.enter_context(path.open("rb"))
        if not file.read(1):
            raise ImageError(f"{name} is empty, expected a video")
        file.seek(0)
        options = {"protocol_whitelist": NO_PROTOCOL, "format_whitelist": f"{FILE_FORMATS},{SOUND_FORMATS}"}
        yield stack.enter_context(_open(file, options, None))


@contextmanager
def opened_address(address: str, name: str) -> Iterator[InputContainer]:
    """A video at an http or https address, open. The host's certificate is checked. Raises ImageError."""
    options = {
        "protocol_whitelist": "http,https,tls,tcp",
        "format_whitelist": f"{ADDRESS_FORMATS},{SOUND_FORMATS}",
        "tls_verify": "1",
        **_authorities(),
    }
    with ExitStack() as stack, _told(name):
        yield stack.enter_context(_open(address, options, (OPEN_TIMEOUT_S, READ_TIMEOUT_S)))


@contextmanager
def opened_rtsp(address: str, name: str) -> Iterator[InputContainer]:
    """A stream at an rtsp or rtsps address, open: over TCP where the server has it, else UDP. Raises ImageError."""
    options = {
        "protocol_whitelist": "rtsp,rtp,srtp,tcp,udp,tls",
        "format_whitelist": "rtsp",
        "rtsp_flags": "prefer_tcp",
        "tls_verify": "1",
        "fflags": "nobuffer",
        **_authorities(),
    }
    with ExitStack() as stack, _told(name):
        yield stack.enter_context(_open(address, options, (OPEN_TIMEOUT_S, READ_TIMEOUT_S)))


@contextmanager
def opened_camera(camera: int | Path, name: str) -> Iterator[InputContainer]:
    """A camera of this machine, open, by its number or its device. Raises ImageError."""
    av = video_module()
    system = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}.get(sys.platform)
    if system is None or not any(system in known.split(",") for known in av.formats_available):
        raise ImageError(f"camera {name}: this system's FFmpeg reads no cameras; expected Linux, macOS or Windows")
    device = str(camera)
    if system == "v4l2" and isinstance(camera, int):
        device = f"/dev/video{camera}"
        if not Path(device).exists():
            raise ImageError(f"camera {camera}: there is no {device}; connect a camera, or give another number")
    if system == "dshow":
        found = [one for one in av.enumerate_input_devices(system) if "video" in one.media_types]
        if not isinstance(camera, int) or camera >= len(found):
            raise ImageError(f"camera {camera}: this machine has {len(found)} cameras, numbered from 0")
        device = f"video={found[camera].name}"
    options = {"protocol_whitelist": NO_PROTOCOL, "format_whitelist": system, "fflags": "nobuffer"}
    with ExitStack() as stack, _told(f"camera {name}"):
        yield stack.enter_context(_open(device, options, (OPEN_TIMEOUT_S, READ_TIMEOUT_S), system))


def video_stream(container: InputContainer, name: str, *, live: bool) -> VideoStream:
    """The container's main video, with its decoder set up. Raises ImageError where there is none, or for its size."""
    av = video_module()
    attached = av.stream.Disposition.attached_pic
    videos = [stream for stream in container.streams.video if not stream.disposition & attached]
    if not videos:
        holds = ", ".join(stream.type for stream in container.streams if stream not in container.streams.video)
        raise ImageError(f"{name} holds no video{f', only {holds}' if holds else ''}; expected a video")
    best = container.streams.best("video")
    stream: VideoStream = best if best in videos else videos[0]
    if stream.codec_context is None:
        raise ImageError(f"{name}: this FFmpeg has no decoder for its video; convert it to H.264")
    limit = pixel_limit(None)
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height:  # a live source may not say it yet
        check_size(width, height, name, limit)
    stream.codec_context.options = {"max_pixels": str(min(limit, 2**31 - 1))}
    # Threads that each decode a frame of their own would hold back as many frames.
    stream.codec_context.thread_type = "SLICE" if live else "AUTO"
    return stream


def _open(
    file: object, options: dict[str, str], timeout: tuple[float, float] | None, format_name: str | None = None
) -> InputContainer:
    av = video_module()
    container: InputContainer = av.open(
        file,
        "r",
        format=format_name,
        container_options=options,
        buffer_size=READ_BUFFER,
        timeout=timeout,
        metadata_errors="replace",
    )
    return container


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Errors of FFmpeg and of the system, as ImageError with the source's name."""
    av = video_module()
    try:
        yield
    except T2DError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be read as video: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """An error of FFmpeg in plain words."""
    av = video_module()
    if isinstance(error, av.ExitError | TimeoutError):
        return "it did not answer in time"
    if isinstance(error, av.ArgumentError):
        return "it is in a format that is not read, or a list of other files, such as a playlist"
    if isinstance(error, av.InvalidDataError):
        return "it is no video, or damaged"
    return str(getattr(error, "strerror", None) or error)


def _authorities() -> dict[str, str]:
    """The file of certificate authorities that Python uses, where there is one."""
    file = ssl.get_default_verify_paths().cafile
    return {} if file is None else {"ca_file": file}
