"""Many images that are segmented one after the other: results in their order, and errors that name the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from os import PathLike
from typing import Any

import numpy as np

from t2d_runtime.errors import OptionError, T2DError
from t2d_runtime.image.reading import ImageLike
from t2d_runtime.overlap import overlapped_by_name


def check_images(images: object) -> None:
    """Raise OptionError for anything but many images: one image, or what cannot be iterated over."""
    if _is_one_image(images) or not isinstance(images, Iterable):
        raise OptionError(f"images are {type(images).__name__}, expected a list or a generator of images")


def batch_results(
    images: Iterable[ImageLike], stages: Sequence[Callable[[Any], Any]], *, raise_errors: bool
) -> Iterator[Any]:
    """The last stage's result for each image, in order, as they are ready; the stages work on images at the same time.

    An error of one image names its index, from 0, and its file if it has one. With `raise_errors` it is raised and ends
    the iteration, else it takes the result's place.
    """
    named_images = ((_place_of(index, image), image) for index, image in enumerate(images))
    with closing(overlapped_by_name(named_images, stages)) as results:
        for place, done in results:
            error = done.exception()
            if not isinstance(error, T2DError):
                yield done.result()
                continue
            named = type(error)(f"{place}: {error}")
            if raise_errors:
                raise named from error
            yield named


def _is_one_image(images: object) -> bool:
    """True for a single image that could be iterated over: bytes, an array's rows, a file's lines."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, str | PathLike | bytes | bytearray | memoryview) or hasattr(images, "read")


def _place_of(index: int, image: ImageLike) -> str:
    """An image among many, for messages: its index, and its file if it has one."""
    file = image if isinstance(image, str | PathLike) else getattr(image, "filename", getattr(image, "name", None))
    return f"image {index} ({file})" if isinstance(file, str | PathLike) and str(file) else f"image {index}"
