"""Image files to result files: reading, encoding, segmenting and writing overlap."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from t2d_runtime.errors import OptionError
from t2d_runtime.image.preprocess import load_image
from t2d_runtime.overlap import overlapped
from t2d_runtime.results.outputs import SUFFIXES, write_segmentation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from t2d_runtime.image.encoding import ImageEncoding
    from t2d_runtime.results.options import SegmentOptions
    from t2d_runtime.results.segmentation import Segmentation
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.words.vocabulary import ClassEmbeddings


@dataclass(frozen=True)
class SegmentedFile:
    """What became of one image."""

    image: Path
    summary: dict[str, Any]
    """As `Segmentation.summary`."""
    written: list[Path]
    encode_ms: float
    segment_ms: float


def image_files(paths: Sequence[Path], output: Path) -> list[Path]:
    """The files, and of a folder those that Pillow may read by their suffix, by name; not of folders in it.

    Of the `output` folder itself, pictures that an earlier run wrote are left out.
    Raises OptionError for a folder without any, or one that cannot be listed.
    """
    from PIL import Image

    registered = Image.registered_extensions()
    # Some formats Pillow only writes; MPO, cameras' JPEG of several pictures, is read as JPEG.
    suffixes = {suffix for suffix, kind in registered.items() if kind in Image.OPEN or kind == "MPO"}
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        try:
            found = [file for file in sorted(path.iterdir()) if file.is_file() and file.suffix.lower() in suffixes]
        except OSError as error:
            raise OptionError(f"{path} cannot be listed: {error.strerror}; expected a folder of images") from error
        if path.resolve() == output.resolve():
            found = [file for file in found if not file.name.endswith(tuple(SUFFIXES.values()))]
        if not found:
            raise OptionError(f"{path} holds no image; expected JPEG, PNG or others that Pillow reads")
        files += found
    return files


def segment_files(
    segmenter: Segmenter,
    images: Sequence[Path],
    classes: ClassEmbeddings,
    output: Path,
    formats: Sequence[str],
    **options: Unpack[SegmentOptions],
) -> Generator[Future[SegmentedFile], None, None]:
    """Segment files as `Segmenter.segment` does and write them as `write_segmentation` does; in order, as they finish.

    A future raises ImageError or ImageNotFoundError for its image, and OutputError; the images after it go on. A few
    images are in memory at a time.
    """
    window = options.pop("window", None) or "slide"

    def read(path: Path) -> tuple[Path, NDArray[np.uint8]]:
        return path, load_image(path)

    def encode(loaded: tuple[Path, NDArray[np.uint8]]) -> tuple[Path, ImageEncoding, float]:
        start = time.perf_counter()
        encoding = segmenter.encode_image(loaded[1], window)
        return loaded[0], encoding, _ms_since(start)

    def segment(encoded: tuple[Path, ImageEncoding, float]) -> tuple[Path, Segmentation, float, float]:
        path, encoding, encode_ms = encoded
        start = time.perf_counter()
        result = segmenter.segment(encoding, classes, **options)
        return path, result, encode_ms, _ms_since(start)

    def write(segmented: tuple[Path, Segmentation, float, float]) -> SegmentedFile:
        path, result, encode_ms, segment_ms = segmented
        written = write_segmentation(result, output, path.stem, formats)
        return SegmentedFile(path, result.summary(), written, encode_ms, segment_ms)

    return overlapped(images, (read, encode, segment, write))


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
