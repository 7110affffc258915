"""PNG files that say that this program wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from t2d_runtime.storage.own_files import GENERATOR, PNG_KEYWORD

if TYPE_CHECKING:
    from PIL import Image


def save_png(picture: Image.Image, file: BinaryIO) -> None:
    """Write a picture with the program's name in a text chunk in front of the pixels."""
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text(PNG_KEYWORD, GENERATOR)
    picture.save(file, "PNG", pnginfo=mark)
