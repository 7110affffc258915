"""Files of `t2d segment --format`, read by the tools that they are for."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import rasterio
import supervision as sv
from affine import Affine
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from rasterio import features
from shapely.geometry import shape
from skimage import data

from t2d_runtime import Segmentation, Segmenter
from t2d_runtime.cli import main
from t2d_runtime.image.georeference import TRANSFORMATION
from t2d_runtime.results.formats import ImageResult
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.results.outputs import ResultWriter, formats_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
"""pycocotools 2.0 reads arrays in NumPy's old way."""

WORDS = ["person", "sky", "ball", "boat"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of one name in two folders, and one that is damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, pixels in (("a", data.astronaut()[:120, :160]), ("b", data.astronaut()[200:290, 100:300])):
        (folder / name).mkdir()
        Image.fromarray(pixels).save(folder / name / "IMG.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def segment(bundle: Path, images: Sequence[Path | str], output: Path, formats: str, *more: str) -> int:
    words = ["--classes", ",".join(WORDS), "--backend", "onnxruntime"]
    return main(
        ["segment", str(bundle), *map(str, images), *words, "--output", str(output), "--format", formats, *more]
    )


def result_of(labels: NDArray[Any], *, background: bool = True) -> Segmentation:
    settings = SegmentationSettings(background, None, 0.5, 1.0, None, "slide", "none", "fp32")
    image = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3), np.uint8)
    confidence = np.random.default_rng(1).random(labels.shape, np.float32)
    names = ("background" if background else "grass", "cat", "dog", "sky")
    return Segmentation(image, labels.astype(np.uint8), names, None, settings, confidence=confidence)


def blobs(seed: int, side: int = 3) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 4, (9, 11)).repeat(side, axis=0).repeat(side, axis=1)


def written(result: Segmentation, name: str, folder: Path, source: Path | bytes | None = None) -> Path:
    with ResultWriter(folder, formats_of(name)) as writer:
        (path,) = writer.write(ImageResult(result, "a.png", source=source), PurePath("a"))
    return path


# COCO


@pytest.mark.parametrize("background", [False, True])
def test_pycocotools_reads_the_file_of_a_run(
    exported_bundle: Path, pictures: Path, tmp_path: Path, segmenter: Segmenter, background: bool
) -> None:
    images = [pictures / "a" / "IMG.png", pictures / "broken.png", pictures / "b" / "IMG.png"]
    more = ["--background", "--confidence"] if background else []
    assert segment(exported_bundle, images, tmp_path, "coco", *more) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["coco.json"]
    coco = COCO(str(tmp_path / "coco.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == WORDS
    assert coco.getCatIds() == [1, 2, 3, 4]
    assert [coco.imgs[index]["file_name"] for index in sorted(coco.imgs)] == ["a/IMG.png", "b/IMG.png"]
    assert min(coco.anns) == 1
    for image in coco.imgs.values():
        found = segmenter.segment(pictures / image["file_name"], WORDS, background=background, keep_confidence=True)
        assert (image["height"], image["width"]) == found.label_map.shape
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        seen = np.zeros(found.label_map.shape, np.uint8)
        labels = {label["name"]: label for label in found.summary()["labels"]}
        for annotation in annotations:
            label = labels[coco.cats[annotation["category_id"]]["name"]]
            mask = coco.annToMask(annotation)
            assert mask.sum() == annotation["area"] == label["pixels"]
            left, top, right, bottom = label["box"]
            assert annotation["bbox"] == [left, top, right - left, bottom - top]
            assert annotation.get("score") == (label["mean_score"] if background else None)
            seen[mask == 1] = label["label"]
        np.testing.assert_array_equal(seen, found.label_map)


def test_supervision_loads_the_file_of_a_run(exported_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    assert segment(exported_bundle, [pictures / "a"], tmp_path, "coco") == 0
    dataset = sv.DetectionDataset.from_coco(
        images_directory_path=str(pictures / "a"), annotations_path=str(tmp_path / "coco.json"), force_masks=True
    )
    assert dataset.classes == WORDS
    ((_, image, detections),) = list(dataset)
    masks = np.asarray(detections.mask)
    assert masks.shape[1:] == image.shape[:2]
    np.testing.assert_array_equal(masks.sum(axis=0), 1)


# labelme

NUMBER = {"type": "number"}
LABELME = {
    "type": "object",
    "required": ["version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"],
    "properties": {
        "version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        "flags": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "imagePath": {"type": "string", "minLength": 1},
        "imageData": {"type": ["string", "null"]},
        "imageHeight": {"type": "integer", "minimum": 1},
        "imageWidth": {"type": "integer", "minimum": 1},
        "shapes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "points", "shape_type", "flags", "group_id", "description", "mask"],
                "additionalProperties": False,
                "properties": {
                    "label": {"type": "string", "minLength": 1},
                    "points": {
                        "type": "array",
                        "minItems": 3,
                        "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": NUMBER},
                    },
                    "shape_type": {"const": "polygon"},
                    "flags": {"type": "object"},
                    "group_id": {"type": ["integer", "null"]},
                    "description": {"type": "string"},
                    "mask": {"type": ["string", "null"]},
                },
            },
        },
    },
}
"""The fields of labelme 5 files of polygons."""


THIN_RING = np.pad(np.pad(np.ones((9, 9), int), 1, constant_values=2), 1)
"""Smaller than what it is around."""
HOLES = np.pad(np.pad([[0, 2], [1, 0]], 2), 3, constant_values=3)


def labelme_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    jsonschema.Draft202012Validator(LABELME).validate(content)
    return content


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("labels", [blobs(0, 1), blobs(3), THIN_RING, HOLES], ids=["noise", "blobs", "ring", "holes"])
def test_labelme_s_polygons_painted_in_order_are_the_labels(
    tmp_path: Path, labels: NDArray[Any], background: bool
) -> None:
    """As labelme's own converters do: each shape over those before it, on background."""
    result = result_of(labels, background=background)
    content = labelme_of(written(result, "labelme", tmp_path))
    assert (content["imageHeight"], content["imageWidth"]) == labels.shape
    painted = np.zeros(labels.shape, np.uint8)
    for one in content["shapes"]:
        polygon = {"type": "Polygon", "coordinates": [[*one["points"], one["points"][0]]]}
        features.rasterize([(polygon, result.class_names.index(one["label"]))], out=painted)
    np.testing.assert_array_equal(painted, labels)
    assert content["shapes"][0]["description"].startswith("mean score 0.")


def test_labelme_finds_the_picture_from_the_file(exported_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    assert segment(exported_bundle, [pictures / "a", pictures / "b"], tmp_path / "out", "labelme") == 0
    for name in ("a", "b"):
        path = tmp_path / "out" / name / "IMG.labelme.json"
        content = labelme_of(path)
        assert (path.parent / content["imagePath"]).samefile(pictures / name / "IMG.png")
        assert content["imageData"] is None


def test_a_picture_from_a_pipe_is_in_the_file(
    exported_bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = (pictures / "a" / "IMG.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(picture)))
    assert segment(exported_bundle, ["-"], tmp_path, "labelme,geojson,coco,csv") == 0
    content = labelme_of(tmp_path / "stdin.labelme.json")
    assert content["imagePath"] == "stdin"
    with Image.open(io.BytesIO(base64.b64decode(content["imageData"]))) as image:
        np.testing.assert_array_equal(np.asarray(image), data.astronaut()[:120, :160])
    assert set(pd.read_csv(tmp_path / "labels.csv").image) == {"stdin"}


# GeoJSON


def geojson_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    assert content["type"] == "FeatureCollection"
    return content


def burned(content: dict[str, Any], size: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
    pairs = [(feature["geometry"], feature["properties"]["label"]) for feature in content["features"]]
    drawn: NDArray[np.uint8] = features.rasterize(pairs, out_shape=size, transform=transform, dtype="uint8")
    return drawn


def test_pixel_coordinates_give_the_labels_back(tmp_path: Path) -> None:
    result = result_of(blobs(5))
    content = geojson_of(written(result, "geojson", tmp_path))
    assert content["coordinates"] == "pixels"
    assert "crs" not in content
    np.testing.assert_array_equal(burned(content, result.label_map.shape, Affine.identity()), result.label_map)
    parts = {(part.label, part.area, round(part.mean_score or 0, 6)) for part in result.instances()}
    properties = [feature["properties"] for feature in content["features"]]
    assert {(one["label"], one["pixels"], one["mean_score"]) for one in properties} == parts
    for feature in content["features"]:
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.area == feature["properties"]["pixels"]
        assert polygon.exterior.is_ccw  # RFC 7946
        assert not any(hole.is_ccw for hole in polygon.interiors)


TRANSFORMS = {
    "north up": Affine(0.5, 0, 500_000, 0, -0.25, 4_200_000),
    "turned": Affine(0.5, 0.125, 500_000, 0.125, -0.5, 4_200_000),
    "south up": Affine(2, 0, 7, 0.5, 2, -9),
}


@pytest.mark.parametrize("kind", ["area", "point"])
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(("epsg", "urn"), [(32633, "urn:ogc:def:crs:EPSG::32633"), (4326, None), (None, None)])
def test_world_coordinates_are_those_of_rasterio(
    tmp_path: Path, name: str, kind: str, epsg: int | None, urn: str | None
) -> None:
    result, picture = result_of(blobs(6)), tmp_path / "a.tif"
    height, width = result.label_map.shape
    shape_of = {"height": height, "width": width, "count": 3, "dtype": "uint8"}
    crs = None if epsg is None else f"EPSG:{epsg}"
    with rasterio.open(picture, "w", driver="GTiff", transform=TRANSFORMS[name], crs=crs, **shape_of) as file:
        file.write(result.image.transpose(2, 0, 1))
        file.update_tags(AREA_OR_POINT=kind.capitalize())
    with rasterio.open(picture) as file:
        transform = file.transform
    assert transform.almost_equals(TRANSFORMS[name])
    for source in (picture, picture.read_bytes()):
        content = geojson_of(written(result, "geojson", tmp_path, source))
        assert content["coordinates"] == "world"
        assert content.get("crs", {}).get("properties", {}).get("name") == urn
        np.testing.assert_array_equal(burned(content, (height, width), transform), result.label_map)
        for feature in content["features"]:
            polygon = shape(feature["geometry"])
            assert polygon.is_valid
            assert polygon.exterior.is_ccw
            assert polygon.area == pytest.approx(feature["properties"]["pixels"] * abs(transform.determinant))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_keeps_its_place_in_the_world(
    exported_bundle: Path, tmp_path: Path, orientation: int, segmenter: Segmenter
) -> None:
    """The labels are upright; the transform is that of the pixels as stored."""
    picture, transform = tmp_path / "a.tif", TRANSFORMS["turned"]
    with rasterio.open(
        picture, "w", driver="GTiff", transform=transform, height=60, width=90, count=3, dtype="uint8"
    ) as f:
        f.write(data.astronaut()[:60, 100:190].transpose(2, 0, 1))
    with Image.open(picture) as image:
        place = {TRANSFORMATION: image.tag_v2[TRANSFORMATION]}  # type: ignore[attr-defined]
        pixels = np.asarray(image)
    Image.fromarray(pixels).save(tmp_path / "b.tif", tiffinfo=place | {274: orientation})
    result = segmenter.segment(tmp_path / "b.tif", WORDS)
    stored = segmenter.segment(picture, WORDS).label_map.shape
    assert result.label_map.shape == (stored if orientation < 5 else stored[::-1])
    content = geojson_of(written(result, "geojson", tmp_path, tmp_path / "b.tif"))
    upside = {
        1: lambda m: m, 2: np.fliplr, 3: lambda m: np.rot90(m, 2), 4: np.flipud, 5: np.transpose,
        6: lambda m: np.rot90(m, 1), 7: lambda m: np.rot90(m.T, 2), 8: lambda m: np.rot90(m, -1),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(burned(content, stored, transform), upside(result.label_map))


def test_tie_points_alone_are_told_and_give_pixels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result, picture = result_of(blobs(6)), tmp_path / "a.tif"
    height, width = result.label_map.shape
    points = [
        rasterio.control.GroundControlPoint(row, col, x=col * 2.0, y=row * 3.0 + col)
        for row, col in ((0, 0), (0, 9), (9, 0), (9, 9))
    ]
    with rasterio.open(
        picture, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8", gcps=points, crs="EPSG:32633"
    ) as file:
        file.write(result.image.transpose(2, 0, 1))
    assert geojson_of(written(result, "geojson", tmp_path, picture))["coordinates"] == "pixels"
    assert "its tags give no transform from pixels to the world" in caplog.text


# CSV and npz


def test_pandas_reads_the_table_of_a_run(exported_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    images = [pictures / "b" / "IMG.png", pictures / "a" / "IMG.png", pictures / "broken.png"]
    assert segment(exported_bundle, images, tmp_path, "csv,json", "--confidence", "--background") == 1
    table = pd.read_csv(tmp_path / "labels.csv")
    assert list(dict.fromkeys(table.image)) == ["b/IMG.png", "a/IMG.png"]
    for name, rows in table.groupby("image"):
        summary = json.loads((tmp_path / Path(str(name)).with_suffix(".json")).read_text())
        present = [label for label in summary["labels"] if label["pixels"]]
        assert rows.name.tolist() == [label["name"] for label in present]
        assert rows.mean_score.tolist() == [label["mean_score"] for label in present]
        assert rows.right.tolist() == [label["box"][2] for label in present]
        assert rows.pixels.sum() == summary["height"] * summary["width"]
    assert segment(exported_bundle, images, tmp_path, "csv", "--overwrite") == 1
    assert pd.read_csv(tmp_path / "labels.csv").mean_score.isna().all()


def test_npz_has_the_confidence_that_is_kept(exported_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    for more, expected in (([], False), (["--confidence"], True)):
        assert segment(exported_bundle, [pictures / "a"], tmp_path, "npz", *more) == 0
        with np.load(tmp_path / "IMG.npz") as archive:
            assert ("confidence" in archive) is expected
            if expected:
                assert archive["confidence"].shape == archive["label_map"].shape
                assert 0.3 < archive["confidence"].mean() < 1


def test_drawing_libraries_fill_one_pixel_more() -> None:
    """docs/results.md says so: Pillow takes points for centres of pixels."""
    (square,) = result_of(np.pad(np.ones((3, 4), int), 2)).polygons("cat")
    picture = Image.new("1", (8, 7))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in square.exterior.tolist()], fill=1)
    assert np.asarray(picture).sum() == 4 * 5
