"""Segment drawn scenes with their own words, through the torch-free runtime.

    python examples/segment_scenes.py BUNDLE SCENES OUTPUT

SCENES is a folder written by `python -m training scenes`. Writes an overlay for each scene, and a sheet of all of them.
Its rows are the picture, the labels of all its concepts, and those of half of them with the rest as background.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from t2d_runtime import Segmenter


def main(bundle: Path, scenes: Path, output: Path) -> None:
    segmenter = Segmenter.open(bundle)
    concepts = json.loads((scenes / "classes.json").read_text())
    output.mkdir(parents=True, exist_ok=True)
    columns = []
    for path in sorted((scenes / "images").iterdir()):
        present = np.unique(np.asarray(Image.open(scenes / "labels" / path.name)))
        words = [concepts[index] for index in present]
        named = words[::2]

        start = time.perf_counter()
        encoding = segmenter.encode_image(path)
        everything = segmenter.segment(encoding, segmenter.encode_classes(words), refine=True)
        milliseconds = (time.perf_counter() - start) * 1e3
        half = segmenter.segment(encoding, segmenter.encode_classes(named), background=True, refine=True)

        everything.overlay().save(output / path.name)
        columns.append([Image.fromarray(everything.image), everything.overlay(), half.overlay()])
        print(f"{path.name}: {', '.join(words)} ({milliseconds:.0f} ms)")
    sheet(list(zip(*columns, strict=True))).save(output / "sheet.png")
    print(f"overlays and sheet.png: {output}")


def sheet(rows: list[tuple[Image.Image, ...]]) -> Image.Image:
    """Pictures in rows and columns, each column as wide as its widest picture."""
    gap = 8
    widths = [max(picture.width for picture in column) for column in zip(*rows, strict=True)]
    heights = [max(picture.height for picture in row) for row in rows]
    page = Image.new("RGB", (sum(widths) + gap * (len(widths) + 1), sum(heights) + gap * (len(heights) + 1)), "white")
    top = gap
    for row, height in zip(rows, heights, strict=True):
        left = gap
        for picture, width in zip(row, widths, strict=True):
            page.paste(picture, (left, top))
            left += width + gap
        top += height + gap
    return page


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
