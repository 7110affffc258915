"""Interlaced frames as whole pictures: two fields, taken at two times, are combs where something moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2d_runtime.streams.containers import video_module

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

FILTER = ("bwdif", "mode=send_frame:deint=interlaced")
"""FFmpeg's filter (Weston's, with the edges of Yadif): a picture for each frame. Other frames are left as they are."""


class Deinterlacer:
    """Fills in the lines of one source's interlaced frames. Does nothing before the first of them."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._kind: object = None

    def __call__(self, frame: VideoFrame) -> list[VideoFrame]:
        """The frames that are complete. From the first interlaced frame on, one waits for the next."""
        if self._graph is None and not frame.interlaced_frame:
            return [frame]
        kind = (frame.width, frame.height, frame.format.name)
        complete = self.rest() if kind != self._kind else []
        if self._graph is None:
            self._graph, self._kind = _graph_for(frame), kind
        self._graph.vpush(frame)
        return complete + self._pulled()

    def rest(self) -> list[VideoFrame]:
        """The frame that still waits, at the end of the source."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        frames = self._pulled()
        self._graph = None
        return frames

    def _pulled(self) -> list[VideoFrame]:
        av = video_module()
        frames = []
        while True:
            try:
                frames.append(self._graph.vpull())
            except (av.BlockingIOError, av.EOFError):
                return frames


def _graph_for(frame: VideoFrame) -> Any:
    graph = video_module().filter.Graph()
    begin = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format.name, time_base=frame.time_base
    )
    deinterlace, end = graph.add(*FILTER), graph.add("buffersink")
    begin.link_to(deinterlace)
    deinterlace.link_to(end)
    graph.configure()
    return graph
