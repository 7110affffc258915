"""The paper's figures: what they draw is what the model says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.figures import panels
from benchmarks.figures.panels import attention_maps, head_cosines
from benchmarks.figures.parameters import PUBLISHED, bundle_parameters, published_parameters
from t2d_runtime import Segmenter
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.image.encoding import ImageEncoding
from training.drawing.scenes import draw_scenes

WORDS = ["sky", "sea", "sand", "boat"]


@pytest.fixture(scope="module")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime")


@pytest.fixture(scope="module")
def encoding(segmenter: Segmenter) -> ImageEncoding:
    (scene,) = draw_scenes(1, 2024, progress=False)
    return segmenter.encode_image(scene.image, "whole")


def test_maps_add_up_to_one_and_keep_their_order() -> None:
    logits = np.random.default_rng(0).normal(0, 50, (3, 4, 5)).astype(np.float32)
    maps = attention_maps(logits)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, atol=1e-6)
    np.testing.assert_array_equal(maps.reshape(3, -1).argmax(axis=1), logits.reshape(3, -1).argmax(axis=1))


def test_a_text_chooses_the_head_that_looks_at_it(segmenter: Segmenter, encoding: ImageEncoding) -> None:
    head = 2
    maps = attention_maps(encoding.cls_attention[0])
    embed = np.einsum("hw,hwd->d", maps[head], encoding.patch_tokens[0])
    cosines = head_cosines(encoding, (embed / np.linalg.norm(embed))[np.newaxis])
    assert cosines.shape == (1, len(maps))
    assert cosines.argmax() == head
    assert cosines[0, head] == pytest.approx(1, abs=1e-5)


def test_parameters_are_counted(exported_bundle: Path) -> None:
    # Of the folder's weights: read off with safetensors once, position embeddings as baked.
    found = bundle_parameters(Bundle.open(exported_bundle))
    assert 1e6 < found.image_encoder < found.text_encoder < 5e6
    # DINOv2's hub says 86 M, CLIP's ViT-B/16 text tower has 63.4 M; the projection adds (512 + 1 + 768 + 1) x 768.
    published = published_parameters("dinov2_vitb14_reg")
    assert published.image_encoder == pytest.approx(86e6, rel=0.01)
    assert published.text_encoder == pytest.approx(63.4e6 + 1282 * 768, rel=0.005)


def test_figures_have_a_panel_for_each_head_and_word(segmenter: Segmenter, encoding: ImageEncoding) -> None:
    attention = panels.attention(encoding)
    heads = encoding.cls_attention.shape[1]
    assert list(attention) == ["image", "average of the logits", *(f"head {head}" for head in range(heads))]
    words = list(panels.heads(encoding, segmenter.encode_classes(WORDS)))
    assert [title.split(":")[0] for title in words] == ["image", *WORDS]
    # Where a head looks the picture is dark, elsewhere the pale image is left.
    shown = np.asarray(attention["head 0"]).mean(axis=2)
    heat = attention_maps(encoding.cls_attention[0])[0]
    patch = shown.shape[0] // heat.shape[0], shown.shape[1] // heat.shape[1]
    by_patch = shown.reshape(heat.shape[0], patch[0], heat.shape[1], patch[1]).mean(axis=(1, 3))
    assert by_patch.ravel()[heat.argmax()] < np.median(by_patch)


def test_cleaning_shows_the_pixels_that_it_changes(segmenter: Segmenter, encoding: ImageEncoding) -> None:
    found = panels.cleaning(segmenter, encoding, segmenter.encode_classes(WORDS))
    title = list(found)[-1]
    share = (np.asarray(found[title]) == 0).mean()
    assert title == f"changed: {share:.1%}"


def test_the_command_writes_every_figure(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scene,) = draw_scenes(1, 2024, progress=False)
    Image.fromarray(scene.image).save(tmp_path / "scene.png")
    saved = tmp_path / "parameters.json"
    options = ["--classes", "sky,sea", "--caption", "a boat on the sea", "--output", str(tmp_path / "out")]
    options += ["--json", str(saved)]
    command = ["figures", str(exported_bundle), str(tmp_path / "scene.png"), *options, "--backend", "onnxruntime"]
    assert main(command) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{name}.png" for name in ("attention", "heads", "cleaning", "overlays")}
    counted = json.loads(saved.read_text())["figures"]["parameters"]
    assert [name.split(",")[0] for name in counted] == ["this bundle", *PUBLISHED]
    total = sum(next(iter(counted.values())).values()) / 1e6
    assert f"{total:.1f} million" in capsys.readouterr().out
    for path in (tmp_path / "out").iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 100


def test_an_image_that_is_not_there_is_one_line_and_status_2(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = ["figures", str(exported_bundle), "nowhere.png", "--classes", "sky", "--output", str(output)]
    assert main(command) == 2
    assert "nowhere.png: no such image file" in capsys.readouterr().err
    assert not output.exists()
