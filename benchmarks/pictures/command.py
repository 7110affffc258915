"""The pictures of docs/words.md and docs/results.md, made by the code that stands above them, on a drawn scene."""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from t2d_runtime.errors import OptionError
from t2d_runtime.storage.whole_file import whole_file

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("words.md", "results.md")
SERIES, SCENE, SIDE = 7, 52, 320
"""The scene: a tree, a flower, a ball, a road and mountains. The small model was not trained on its series."""

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SAVED = re.compile(r'\.save\("(\w+\.jpg)"\)')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks pictures`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="exported from models/tiny")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures", metavar="DIR")


def run(args: argparse.Namespace) -> int:
    """Run the documents' code in a folder of its own, and copy the pictures that it saves."""
    if not args.bundle.is_dir():
        raise OptionError(f"{args.bundle} is no folder; expected a bundle exported from models/tiny")
    for document in DOCUMENTS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "bundle").symlink_to(args.bundle.resolve(), target_is_directory=True)
            _draw_photo(folder / "photo.jpg")
            for picture in _run_blocks(ROOT / "docs" / document, folder):
                with (folder / picture).open("rb") as source, whole_file(args.output / picture) as target:
                    shutil.copyfileobj(source, target)
                print(f"{args.output / picture}: {(folder / picture).stat().st_size / 1000:.0f} kB")
    return 0


def pictures_of(document: Path) -> list[str]:
    """The names of the pictures that a document's code saves."""
    return [name for block in _blocks(document) for name in _SAVED.findall(block)]


def _blocks(document: Path) -> list[str]:
    return _BLOCK.findall(document.read_text(encoding="utf-8"))


def _draw_photo(path: Path) -> None:
    from training.drawing.scenes import draw_scene

    Image.fromarray(draw_scene(SERIES, SCENE, SIDE).image).save(path, quality=95)


def _run_blocks(document: Path, folder: Path) -> list[str]:
    """Run a document's Python blocks in a folder, as far as they save pictures; returns the pictures' names."""
    blocks = _blocks(document)
    last = max(index for index, block in enumerate(blocks) if _SAVED.search(block))
    names: dict[str, Any] = {"__name__": "document"}
    with contextlib.chdir(folder):
        for block in blocks[: last + 1]:
            exec(compile(block, str(document), "exec"), names)
    return pictures_of(document)
