"""Procedurally drawn scenes: pictures with captions and ground-truth label maps, deterministic by seed.

They replace photographs, which cannot be distributed with the project. `training.commands.tiny` trains the small model
on them, and `benchmarks` measures its masks on scenes of another seed.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from t2d_runtime.errors import OptionError, OutputError
from training.config import check_seed
from training.drawing.canvas import Canvas
from training.drawing.captions import write_captions
from training.drawing.composition import compose
from training.drawing.concepts import CONCEPTS
from training.folders import new_folder
from training.processes import end_with_parent, signals_to_parent

DEFAULT_SIZE: Final = 224
MIN_SIZE: Final = 56
MAX_SIZE: Final = 4096
# Every concept of a picture covers at least this share of it. A composition that hides one is drawn again.
MIN_SHARE: Final = 0.012
# Fewer scenes than this are drawn in this process, since starting others takes longer.
FEW: Final = 100
CHUNK: Final = 16


@dataclass(frozen=True)
class Scene:
    """One drawn scene.

    image (S,S,3) uint8 RGB; labels (S,S) uint8, indices into `CONCEPTS`; regions (S,S) uint8, a number for each drawn
    object; captions: sentences that name some of the visible things.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    regions: NDArray[np.uint8]
    captions: tuple[str, ...]

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names of the concepts in the picture, in the order of `CONCEPTS`."""
        return tuple(CONCEPTS[index] for index in np.unique(self.labels))


def draw_scene(seed: int, index: int, size: int = DEFAULT_SIZE) -> Scene:
    """Draw scene number `index` of the series `seed`, `size` x `size` pixels; always the same."""
    rng = np.random.default_rng((seed, index))
    while True:
        canvas = Canvas(size)
        composition = compose(canvas, rng)
        image, labels, regions = canvas.finish(rng, composition.tint(rng), composition.light.saturation)
        shares = np.bincount(labels.ravel(), minlength=len(CONCEPTS)) / labels.size
        if shares[shares > 0].min() >= MIN_SHARE:
            break
    visible = [CONCEPTS[i] for i in np.flatnonzero(shares)]
    return Scene(image, labels, regions, write_captions(rng, composition, visible))


def _draw(index: int, seed: int, size: int) -> Scene:
    return draw_scene(seed, index, size)


def draw_scenes(
    count: int, seed: int, size: int = DEFAULT_SIZE, *, workers: int | None = None, progress: bool = True
) -> Iterator[Scene]:
    """Draw the scenes 0 to count - 1 of a series in order, with several processes (None: one for each CPU)."""
    workers = (os.cpu_count() or 1) if workers is None else workers
    draw = partial(_draw, seed=seed, size=size)
    with tqdm(total=count, desc="drawing scenes", unit="scene", mininterval=1.0, disable=not progress or None) as bar:
        for scene in map(draw, range(count)) if workers == 1 or count < FEW else _parallel(draw, count, workers):
            bar.update()
            yield scene


def _parallel(draw: Callable[[int], Scene], count: int, workers: int) -> Iterator[Scene]:
    chunks = (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
    pending: deque[Future[list[Scene]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        with signals_to_parent():
            # Few at a time, since an interrupted command waits for these.
            pending.extend(pool.submit(_draw_all, draw, chunk) for chunk in islice(chunks, workers + 1))
        try:
            while pending:
                yield from pending.popleft().result()
                pending.extend(pool.submit(_draw_all, draw, chunk) for chunk in islice(chunks, 1))
        except BrokenProcessPool as error:
            raise OutputError("a process that draws scenes was ended from outside; is there enough memory?") from error


def _draw_all(draw: Callable[[int], Scene], indices: range) -> list[Scene]:
    return [draw(index) for index in indices]


def write_scenes(output: Path, count: int, seed: int, size: int = DEFAULT_SIZE) -> None:
    """Write scenes in the layout of COCO: images/*.png, labels/*.png, annotations/captions.json, classes.json.

    The folder appears whole or not at all. Raises OptionError for a count below 1, a size outside 56 to 4096 or a seed
    out of range, and OutputError where the folder exists already or cannot be written.
    """
    if count < 1 or not MIN_SIZE <= size <= MAX_SIZE:
        raise OptionError(f"expected at least 1 scene of {MIN_SIZE} to {MAX_SIZE} pixels, got {count} of {size}")
    check_seed(seed)
    with new_folder(output) as root:
        for folder in ("images", "labels", "annotations"):
            (root / folder).mkdir()
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for index, scene in enumerate(draw_scenes(count, seed, size)):
            name = f"{index:06d}.png"
            Image.fromarray(scene.image).save(root / "images" / name)
            Image.fromarray(scene.labels).save(root / "labels" / name)
            images.append({"id": index, "file_name": name, "height": size, "width": size})
            for caption in scene.captions:
                annotations.append({"id": len(annotations), "image_id": index, "caption": caption})
        info = {"description": "procedurally drawn scenes", "seed": seed, "count": count, "size": size}
        captions = {"info": info, "images": images, "annotations": annotations}
        (root / "annotations" / "captions.json").write_text(json.dumps(captions))
        (root / "classes.json").write_text(json.dumps(list(CONCEPTS), indent=1) + "\n")
