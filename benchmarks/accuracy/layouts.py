"""The eight published benchmarks: the places of their files, their preparation, and their protocols.

Folders and file names are mmsegmentation's, protocols those of the paper's evaluation (Talk2DINO, Sec. 4). In the files
of "shifted" benchmarks, labels count from 1 and value 0 is ignored (`reduce_zero_label`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks.accuracy.dataset import DataSet, Sample, check_files
from benchmarks.accuracy.truth import LabelRule
from t2d_runtime.errors import DataError

CLASS_NAMES: Final = Path(__file__).parent.parent / "class_names.json"
"""Names in the published evaluation's exact form for the text encoder, including spaces at their ends."""

VOID: Final = 255
"""Value of pixels that do not count, in all of these sets except COCO-Object."""


@dataclass(frozen=True)
class Layout:
    """The places of a data set's files."""

    title: str
    roots: tuple[str, ...]
    """Usual folders below --data; the first one that exists is used."""
    images: str
    labels: str
    image_suffix: str
    label_suffix: str
    source: str
    """Instructions: the files to download, and how to make the label maps."""
    split: str | None = None
    """File that lists the images' names. Without it, every image is used."""

    def samples(self, data: Path, limit: int | None) -> tuple[Sample, ...]:
        """The first `limit` images, by name or in the order of the split, and their label maps.

        Raises DataError where files are missing; it says what to download and where to put it.
        """
        roots = [data / root for root in self.roots]
        root = next((root for root in roots if root.is_dir()), roots[0])
        names = self._names(root)
        if not names:
            looked_for = root / (self.split or f"{self.images}/**/*{self.image_suffix}")
            raise DataError(f"no image of {self.title}: {looked_for} was looked for; {self._repair(roots)}")
        samples = tuple(
            Sample(
                name,
                root / self.images / (name + self.image_suffix),
                root / self.labels / (name + self.label_suffix),
            )
            for name in names[:limit]
        )
        check_files(samples, self._repair(roots))
        return samples

    def _names(self, root: Path) -> list[str]:
        """Names of the images below their folder, without suffix; Cityscapes has folders of cities."""
        if self.split is None:
            folder = root / self.images
            found = (path.relative_to(folder).as_posix() for path in folder.rglob(f"*{self.image_suffix}"))
            return sorted(path.removesuffix(self.image_suffix) for path in found)
        try:
            lines = (root / self.split).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{root / self.split} cannot be read: {error}; expected a name a line") from error
        return [line.strip() for line in lines if line.strip()]

    def _repair(self, roots: list[Path]) -> str:
        return f"download {self.source}; it goes to {' or '.join(map(str, roots))}"


@dataclass(frozen=True)
class Benchmark:
    """A data set with the protocol of its published figure."""

    layout: Layout
    names: str
    """Key in class_names.json. The names of a protocol with background begin with background's."""
    shifted: bool = False
    background: bool = False
    cleaning: bool = False
    ignored: tuple[int, ...] = (VOID,)

    def open(self, name: str, data: Path, limit: int | None = None) -> DataSet:
        """The first `limit` images of the benchmark below the folder `data`. Raises DataError."""
        labels: list[str] = json.loads(CLASS_NAMES.read_text(encoding="utf-8"))[self.names]
        first = 1 if self.shifted else 0
        return DataSet(
            name=name,
            samples=self.layout.samples(data, limit),
            label_names=tuple(labels),
            rule=LabelRule(
                values=tuple(range(first, first + len(labels))),
                ignored=(0, *self.ignored) if self.shifted else self.ignored,
            ),
            background=self.background,
            cleaning=self.cleaning,
        )


VOC: Final = Layout(
    title="PASCAL VOC 2012",
    roots=("VOCdevkit/VOC2012",),
    images="JPEGImages",
    labels="SegmentationClass",
    image_suffix=".jpg",
    label_suffix=".png",
    split="ImageSets/Segmentation/val.txt",
    source="VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
)

CONTEXT: Final = replace(
    VOC,
    title="PASCAL Context",
    roots=("VOCdevkit/VOC2010",),
    labels="SegmentationClassContext",
    split="ImageSets/SegmentationContext/val.txt",
    source=(
        "VOCtrainval_03-May-2010.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2010/ and trainval_merged.json of "
        "https://www.cs.stanford.edu/~roozbeh/pascal-context/, and make label maps and split with mmsegmentation's "
        "tools/convert_datasets/pascal_context.py"
    ),
)

STUFF: Final = Layout(
    title="COCO-Stuff 164k",
    roots=("coco_stuff164k",),
    images="images/val2017",
    labels="annotations/val2017",
    image_suffix=".jpg",
    label_suffix="_labelTrainIds.png",
    source=(
        "val2017.zip from https://cocodataset.org and stuffthingmaps_trainval2017.zip from "
        "https://github.com/nightrome/cocostuff, and make *_labelTrainIds.png with mmsegmentation's "
        "tools/convert_datasets/coco_stuff164k.py"
    ),
)

OBJECT: Final = replace(
    STUFF,
    title="COCO-Object",
    roots=("coco_object", *STUFF.roots),
    label_suffix="_instanceTrainIds.png",
    source=(
        "val2017.zip from https://cocodataset.org and stuffthingmaps_trainval2017.zip from "
        "https://github.com/nightrome/cocostuff, and make *_instanceTrainIds.png with convert_coco_object.py of "
        "Talk2DINO's repository: 0 where there is no object, unlabelled pixels included, 1 to 80 for the objects"
    ),
)

CITYSCAPES: Final = Layout(
    title="Cityscapes",
    roots=("cityscapes",),
    images="leftImg8bit/val",
    labels="gtFine/val",
    image_suffix="_leftImg8bit.png",
    label_suffix="_gtFine_labelTrainIds.png",
    source=(
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from https://www.cityscapes-dataset.com, and make "
        "*_labelTrainIds.png with csCreateTrainIdLabelImgs of cityscapesscripts"
    ),
)

ADE: Final = Layout(
    title="ADE20K, 150 classes",
    roots=("ADEChallengeData2016", "ade/ADEChallengeData2016"),
    images="images/validation",
    labels="annotations/validation",
    image_suffix=".jpg",
    label_suffix=".png",
    source="ADEChallengeData2016.zip from http://sceneparsing.csail.mit.edu",
)

BENCHMARKS: Final[Mapping[str, Benchmark]] = MappingProxyType(
    {
        "voc20": Benchmark(VOC, "voc20", shifted=True),
        "context59": Benchmark(CONTEXT, "context59", shifted=True),
        "stuff": Benchmark(STUFF, "coco_stuff171"),
        "cityscapes": Benchmark(CITYSCAPES, "cityscapes19"),
        "ade20k": Benchmark(ADE, "ade150", shifted=True),
        "voc21": Benchmark(VOC, "voc21", background=True, cleaning=True),
        "context60": Benchmark(CONTEXT, "context60", background=True),
        "object": Benchmark(OBJECT, "coco_object81", background=True, cleaning=True, ignored=()),
    }
)
"""Name on the command line -> benchmark. The published figures use background cleaning on VOC and COCO-Object only."""
