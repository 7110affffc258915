"""An iterable of images as a source."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from t2d_runtime.image.reading import ImageLike, load_image
from t2d_runtime.streams.files import Found
from t2d_runtime.streams.frames import SourceFrame


def image_frames(images: Iterable[ImageLike]) -> Found:
    """The images of an iterable, each in any form that `load_image` takes."""
    for index, image in enumerate(images):
        yield SourceFrame(partial(load_image, image), index)
