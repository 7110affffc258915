"""Decoded frames as RGB pixels: colour matrix and range as tagged, transparency on white, upright."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import ImageError
from t2d_runtime.image.orientation import upright
from t2d_runtime.image.pixels import on_white
from t2d_runtime.image.sizes import check_size, pixel_limit
from t2d_runtime.streams.containers import reason, video_module

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

HIGH_DEFINITION = (1280, 576)
"""Width from which, or height above which, a video without a tag is taken for BT.709, as players do; else BT.601."""

_MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}
"""AVColorSpace, as frames are tagged (ITU-T H.273, table 4) -> the scaler's matrix."""

_UNTAGGED = (2, 3)
"""AVColorSpace of frames that do not say their matrix."""

_TURNS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
"""Display matrix (a, b, c, d) by signs -> the EXIF orientation of the same turn. ISO/IEC 14496-12: x' = ax + cy,
y' = bx + dy."""

_ON_THEIR_SIDE = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

_ROTATED = {0: 1, -90: 6, 180: 3, -180: 3, 90: 8}
"""Degrees counterclockwise -> the EXIF orientation of the same turn."""


class FrameConverter:
    """Converts the frames of one source to RGB. It keeps the scaler's tables, so it is for one thread at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reformatter = video_module().video.reformatter.VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Pixels (H,W,3) uint8 RGB of a frame, upright. Raises ImageError for too many pixels, or an unknown format."""
        av = video_module()
        check_size(frame.width, frame.height, self._name, pixel_limit(None))
        has_alpha = _has_alpha(frame)
        scaling = av.video.reformatter.Interpolation
        flags = scaling.BILINEAR
        if max(component.bits for component in frame.format.components) > 8:
            flags |= scaling.FULL_CHR_H_INT  # without it, white of 10 bits becomes 253
        try:
            converted = self._reformatter.reformat(
                frame,
                format="rgba" if has_alpha else "rgb24",
                src_colorspace=_matrix(frame),
                src_color_range=frame.color_range or None,
                interpolation=flags,
            ).to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise ImageError(
                f"{self._name}: pixels of format {frame.format.name} cannot be converted: {reason(error)}"
            ) from error
        if has_alpha:
            from PIL import Image

            converted = on_white(Image.fromarray(converted))
        return upright(converted, orientation_of(frame))


def orientation_of(frame: VideoFrame) -> int:
    """The EXIF orientation, 1 to 8, of a frame's display matrix. Turns that are not by quarters count as 1."""
    av = video_module()
    try:
        side_data: Any = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    except ValueError:  # beside it is data of a kind that PyAV does not know
        return _ROTATED.get(frame.rotation, 1)
    if side_data is None:
        return 1
    a, b, _, c, d = (int(np.sign(value)) for value in struct.unpack_from("=5i", bytes(side_data)))
    return _TURNS.get((a, b, c, d), 1)


def sample_aspect_ratio_of(frame: VideoFrame, stream: VideoStream) -> Fraction:
    """Width of a pixel over its height in a stream's frame, upright; 1 where the stream does not say it."""
    told = stream.sample_aspect_ratio
    if not told or told < 0:
        return Fraction(1)
    return 1 / told if orientation_of(frame) in _ON_THEIR_SIDE else told


def _matrix(frame: VideoFrame) -> object:
    """The scaler's colour matrix for a frame; None where there is nothing to choose."""
    if frame.format.is_rgb or frame.format.has_palette:
        return None
    matrices = video_module().video.reformatter.Colorspace
    if frame.colorspace in _UNTAGGED:
        large = frame.width >= HIGH_DEFINITION[0] or frame.height > HIGH_DEFINITION[1]
        return matrices["ITU709" if large else "ITU601"]
    name = _MATRICES.get(frame.colorspace)
    return None if name is None else matrices[name]


def _has_alpha(frame: VideoFrame) -> bool:
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)
