"""Sinks: where the frames of a stream are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2d_runtime.streams.sinks.json_lines import JsonLinesSink
    from t2d_runtime.streams.sinks.others import CallbackSink, FrameFilesSink, RawVideoSink
    from t2d_runtime.streams.sinks.video import VideoSink

# Imported at first use: each needs packages that the others do not.
_HOMES = {
    "CallbackSink": "t2d_runtime.streams.sinks.others",
    "FrameFilesSink": "t2d_runtime.streams.sinks.others",
    "JsonLinesSink": "t2d_runtime.streams.sinks.json_lines",
    "RawVideoSink": "t2d_runtime.streams.sinks.others",
    "VideoSink": "t2d_runtime.streams.sinks.video",
}

__all__ = ["CallbackSink", "FrameFilesSink", "JsonLinesSink", "RawVideoSink", "VideoSink"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
