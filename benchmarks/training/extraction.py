"""Rate of feature extraction, images only, as a share of the bare encoder's rate on batches in memory.

The two take turns on the same images with the same encoder, batch size and precision. The images are JPEG files of
COCO's usual size.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tqdm import tqdm

from benchmarks.blocks import Block
from benchmarks.contenders.picture import photograph
from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from training.config import FeatureConfig
    from training.features.encoding import Encoders

IMAGE_SIZE = 480, 640
"""Most frequent (height, width) of COCO."""


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the arguments of this part."""
    parser.add_argument("--backbone", default="dinov2_vitb14_reg", metavar="NAME|FOLDER", help="default: %(default)s")
    parser.add_argument("--backbone-weights", default="random", metavar="FILE|hub|random", help="default: %(default)s")
    parser.add_argument("--text-weights", default="random", metavar="FILE|hub|random", help="not used for images")
    parser.add_argument("--pictures", type=int, default=20, help="pictures of a round (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--loaders", type=int, default=1, help="processes that load pictures (default: %(default)s)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")


def check(args: argparse.Namespace) -> None:
    """Raise OptionError for impossible sizes."""
    if min(args.pictures, args.batch_size) < 1 or args.loaders < 0:
        raise OptionError("expected at least one picture, one picture a batch and --loaders of 0 or more")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the rate and its share of the bare encoder's."""
    import torch

    from training.config import FeatureConfig
    from training.features.extraction import load_encoders

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        paths = _write_images(Path(name), args.pictures)
        config = FeatureConfig(
            captions=paths[0],
            output=Path(name) / "features",
            backbone=args.backbone,
            backbone_weights=args.backbone_weights,
            text_weights=args.text_weights,
            precision=args.precision,
            batch_size=args.batch_size,
            images_per_shard=args.pictures,
            workers=args.loaders,
        )
        encoders = load_encoders(config)
        found = _rounds(config, encoders, paths, args.rounds)
    names = ("backbone", "precision", "threads", "batch_size", "loaders", "pictures", "rounds")
    return {
        **{name: getattr(args, name) for name in names},
        "input_size": encoders.backbone.input_size,
        "images_per_s": round(args.pictures / statistics.median(whole for _, whole in found), 3),
        "share_of_bare_encoder": round(statistics.median(bare / whole for bare, whole in found), 4),
    }


def blocks(figures: dict[str, Any]) -> list[Block]:
    """The figures in one sentence."""
    return [
        f"Features of images, {figures['backbone']} in {figures['precision']}, {figures['threads']} threads: "
        f"{figures['images_per_s']:.2f} images a second, {figures['share_of_bare_encoder']:.0%} of the bare encoder's "
        "rate."
    ]


def _rounds(config: FeatureConfig, encoders: Encoders, paths: list[Path], rounds: int) -> list[tuple[float, float]]:
    """Seconds for all images, of the bare encoder and of an extraction, round by round."""
    from training.features.captions import CaptionedImage, CaptionFile
    from training.features.extraction import Extraction, plan
    from training.features.images import image_batches

    images = [CaptionedImage(number, path, (), ()) for number, path in enumerate(paths)]
    manifest = plan(config, CaptionFile(paths[0], images), encoders)
    places, size = range(len(paths)), config.batch_size
    batches = [list(places[start : start + size]) for start in range(0, len(places), size)]
    crops = [loaded.crops for loaded in image_batches(paths, batches, encoders.backbone.input_size, 0)]
    encoders.encode_images(crops[0])
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for batch in tqdm(crops, "bare encoder", unit="batch", disable=None, leave=False):
            encoders.encode_images(batch)
        bare = time.perf_counter() - start
        for shard in config.output.glob("shard-*"):
            shard.unlink()
        start = time.perf_counter()
        Extraction(config, manifest, images, encoders).run()
        found.append((bare, time.perf_counter() - start))
    return found


def _write_images(folder: Path, count: int) -> list[Path]:
    """Write JPEG files with different pixels."""
    height, width = IMAGE_SIZE
    picture = photograph((height, width + count))
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(picture[:, number : number + width]).save(path, quality=85)
    return paths
