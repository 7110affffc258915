"""The sound of a video file, for the video that is made from it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from t2d_runtime.streams.containers import opened_file, video_module


class Sound:
    """Copies the sound of a file into a container, in step with the video. Coded again where the container asks it."""

    @classmethod
    def of(cls, path: Path, output: Any, codec: str) -> Sound | None:
        """The file's main sound; None where it has none, or one that cannot be decoded."""
        stack = ExitStack()
        container = stack.enter_context(opened_file(path, str(path)))
        stream: Any = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            stack.close()
            return None
        return cls(stack, container, stream, output, codec)

    def __init__(self, stack: ExitStack, container: Any, stream: Any, output: Any, codec: str) -> None:
        av = video_module()
        self._stack = stack
        self._output = output
        start = container.start_time
        self._start_s = 0.0 if start is None else start / 1_000_000
        self._stream = stream
        self._copied = stream.codec_context.name in output.supported_codecs
        if self._copied:
            self._out = output.add_stream_from_template(stream)
        else:
            rate = 48000 if codec == "libopus" else stream.codec_context.sample_rate
            self._out = output.add_stream(codec, rate=rate, layout=stream.codec_context.layout.name)
            context = self._out.codec_context
            self._resampler = av.AudioResampler(context.format, context.layout, rate)
        self._packets: Generator[Any, None, None] = self._read(container)
        self._waiting = next(self._packets, None)

    def copy_until(self, seconds: float, first_s: float) -> None:
        """Write what sounds before a time of the new video, which begins at `first_s` of the file."""
        while self._waiting is not None:
            time_s = float(self._waiting.pts * self._waiting.time_base) - self._start_s
            if time_s >= first_s + seconds:
                return
            if time_s >= first_s:
                self._write(self._waiting, first_s + self._start_s)
            self._waiting = next(self._packets, None)

    def finish(self) -> None:
        """Write what the encoder still holds, and close the file."""
        self._packets.close()
        if not self._copied:
            for frame in self._resampler.resample(None):
                self._output.mux(self._out.encode(frame))
            self._output.mux(self._out.encode())
        self._stack.close()

    def _write(self, found: Any, begin_s: float) -> None:
        shift = round(begin_s / found.time_base)
        if self._copied:
            found.pts -= shift
            found.dts = found.pts if found.dts is None else found.dts - shift
            found.stream = self._out
            self._output.mux(found)
            return
        found.pts -= shift
        for frame in self._resampler.resample(found):
            self._output.mux(self._out.encode(frame))

    def _read(self, container: Any) -> Generator[Any, None, None]:
        """Packets to be copied, or frames to be coded again. A damaged one is left out."""
        av = video_module()
        try:
            for packet in container.demux(self._stream):
                if self._copied:
                    if packet.pts is not None and packet.size:
                        yield packet
                    continue
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                yield from (frame for frame in frames if frame.pts is not None)
        except av.FFmpegError:  # the source's frames tell it
            return
