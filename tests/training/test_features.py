"""Feature extraction: what is kept is what the method says, and a killed run loses and doubles nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2d_export.model.reference import mean_of_words
from t2d_export.model.towers import ImageFeatures
from t2d_runtime.errors import DataError, NotFiniteError, OutputError
from training.__main__ import main
from training.config import FeatureConfig, TrainConfig
from training.features import images as images_module
from training.features.encoding import Encoders, image_vectors, load_towers
from training.features.extraction import Extraction, extract, load_encoders
from training.features.feature_set import FeatureSet, read_manifest, shard_path, write_shard
from training.features.images import crop
from training.run.train import train

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = {
    "architecture": "dinov2",
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "patch_size": 14,
    "num_register_tokens": 4,
    "image_size": 28,
    "text": {
        "width": 16,
        "layers": 2,
        "heads": 2,
        "context_length": 77,
        "embed_dim": 12,
        "activation": "quick_gelu",
    },
    "windows": {"short_side": 28, "crop_size": 28, "stride": 14},
}
CAPTIONS = ("a {} boat", "wow! a ball near the {} house", "{}")


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(MODEL))
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    """Ten images with one to three captions each, ids out of order."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(10):
        name = f"{number}.png"
        pixels = rng.integers(0, 256, (20 + number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / name)
        images.append({"id": 100 - number, "file_name": name})
        for caption in CAPTIONS[: 1 + number % 3]:
            text = caption.format(f"number {number}")
            annotations.append({"id": 1000 + len(annotations), "image_id": 100 - number, "caption": text})
    rng.shuffle(annotations)
    (root / "annotations" / "captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


@pytest.fixture
def config(data, model, tmp_path) -> FeatureConfig:
    return FeatureConfig(
        captions=data,
        output=tmp_path / "features",
        backbone=str(model),
        backbone_weights="random",
        text_weights="random",
        batch_size=2,
        images_per_shard=4,
        workers=0,
        token_arrays=("tokens", "penultimate"),
    )


def same_features(first: Path, second: Path) -> bool:
    ours, theirs = FeatureSet(first), FeatureSet(second)
    return ours.manifest == theirs.manifest and all(
        a.arrays.keys() == b.arrays.keys() and all(np.array_equal(a.arrays[k], b.arrays[k]) for k in a.arrays)
        for a, b in zip(ours.shards, theirs.shards, strict=True)
    )


def test_head_embeddings_are_the_methods():
    torch.manual_seed(0)
    tokens, logits = torch.randn(2, 9, 6), torch.randn(2, 3, 9)
    vectors = image_vectors(ImageFeatures(tokens, logits, torch.randn(2, 6)))
    for image in range(2):
        for head in range(3):
            weights = torch.softmax(logits[image, head], dim=0)
            expected = sum(weights[p] * tokens[image, p] for p in range(9)) / 9
            torch.testing.assert_close(vectors.heads[image, head], expected)
        weights = torch.softmax(logits[image].mean(dim=0), dim=0)
        torch.testing.assert_close(vectors.average[image], (weights[:, None] * tokens[image]).mean(dim=0))


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (28, 28), (29, 31), (1, 50), (333, 500)])
def test_crop_is_torchvisions(shape):
    from torchvision.transforms import v2
    from torchvision.transforms.functional import InterpolationMode

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = v2.Compose([v2.Resize(28, interpolation=InterpolationMode.BICUBIC), v2.CenterCrop(28)])
    np.testing.assert_array_equal(crop(image, (28, 28)), np.asarray(theirs(Image.fromarray(image))))


def test_crop_to_a_rectangle_covers_it():
    image = np.zeros((50, 100, 3), dtype=np.uint8)
    image[:, 25:75] = 255
    assert crop(image, (28, 28)).min() > 200
    assert crop(image, (14, 56)).shape == (14, 56, 3)


def test_the_text_towers_activation_is_the_one_asked_for(config):
    asked = dataclasses.replace(config, text_activation="gelu")
    assert (load_encoders(config).quick_gelu, load_encoders(asked).quick_gelu) == (True, False)


def test_a_feature_set_holds_what_the_towers_give(config, model):
    manifest = extract(config)
    assert (manifest.images, manifest.captions, manifest.skipped, manifest.complete) == (10, 19, (), True)
    features = FeatureSet(config.output)
    assert sorted(features.caption_ids) == list(range(1000, 1019))
    towers = load_towers(str(model), "random", "random", None)
    listed = json.loads((config.captions / "annotations" / "captions.json").read_text())
    by_id = {entry["id"]: entry for entry in listed["annotations"]}
    file_names = {entry["id"]: entry["file_name"] for entry in listed["images"]}
    encoders = load_encoders(config)
    for caption, caption_id in enumerate(features.caption_ids):
        shard = features.shards[features.caption_shard[caption]].arrays
        entry, row = by_id[caption_id], features.caption_row[caption]
        assert shard["image_ids"][features.image_row[caption]] == entry["image_id"]

        pixels = np.asarray(Image.open(config.captions / "images" / file_names[entry["image_id"]]))
        crops = torch.from_numpy(crop(pixels, (28, 28)).copy()).permute(2, 0, 1)
        mean, std = (torch.tensor(v)[:, None, None] for v in (towers.backbone.mean, towers.backbone.std))
        vectors = image_vectors(towers.backbone(((crops / 255 - mean) / std)[None]))
        for name, vector in vectors._asdict().items():
            expected = vector[0].numpy()
            np.testing.assert_allclose(shard[name][features.image_row[caption]], expected, rtol=1e-4, atol=1e-6)

        ids = torch.from_numpy(encoders.tokenizer.encode([entry["caption"]]))
        start, stop = shard["token_offsets"][row : row + 2]
        tokens = towers.text_tower.token_features(ids)
        expected_arrays = {
            "text": (shard["text"][row], towers.text_tower(ids)[0]),
            "text_average": (shard["text_average"][row], mean_of_words(tokens, ids)[0]),
            "tokens": (shard["tokens"][start:stop], tokens[0]),
            "penultimate": (
                shard["penultimate"][start:stop],
                towers.text_tower.hidden_states(ids, without_last_block=True)[0],
            ),
        }
        for name, (found, expected) in expected_arrays.items():
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_training_takes_what_was_extracted(config, tmp_path):
    extract(config)
    for projection in ("text", "last_block"):
        result = train(
            TrainConfig(
                features=config.output, output=tmp_path / projection, projection=projection, epochs=1, batch_size=8
            )
        )
        assert np.isfinite(result.history[0].train_loss)


def test_last_block_reproduces_clips_features_before_training(config):
    from training.features.batches import BatchReader, FeatureChoice
    from training.objective.objective import new_projection

    manifest = extract(config)
    features = FeatureSet(config.output)
    projection = new_projection("last_block", config.output, manifest, seed=0)
    batch = next(BatchReader(features, FeatureChoice.of("max_score", "last_block", "end"), 19).epoch())
    expected = np.concatenate([shard.arrays["text"] for shard in features.shards])
    found = projection.end_feature(batch.text, batch.lengths - 1).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "float32"), ("fp32", "float16")])
def test_reduced_precision_is_near(config, tmp_path, precision, dtype):
    extract(config)
    extract(dataclasses.replace(config, precision=precision, dtype=dtype, output=tmp_path / "reduced"))
    exact, reduced = (
        np.concatenate([shard.arrays["heads"].astype(np.float32) for shard in FeatureSet(folder).shards])
        for folder in (config.output, tmp_path / "reduced")
    )
    difference = np.linalg.norm(exact - reduced) / np.linalg.norm(exact)
    assert 0 < difference < 0.03  # bfloat16 has 8 bits, two blocks deep


def test_several_processes_and_a_second_run_give_the_same(config, tmp_path):
    extract(config)
    extract(dataclasses.replace(config, output=tmp_path / "second", workers=1))
    assert same_features(config.output, tmp_path / "second")
    before = {path: path.stat().st_mtime_ns for path in config.output.iterdir()}
    assert extract(config).complete
    assert {path: path.stat().st_mtime_ns for path in config.output.iterdir()} == before


def test_a_killed_extraction_goes_on(config, tmp_path):
    """Killed with SIGKILL while the second of three shards is half written; the process that loads images ends too."""
    whole = tmp_path / "whole"
    extract(dataclasses.replace(config, output=whole))
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, pathlib, time\n"
        "from training.features import extraction\nfrom training.config import FeatureConfig\n"
        "make = os.open\n"
        "def slow(path, flags, *rest, **options):\n"
        "    handle = make(path, flags, *rest, **options)\n"
        "    if 'shard-00001' in str(path) and flags & os.O_EXCL:\n"
        "        pathlib.Path(path).write_bytes(b'half of it')\n"
        "        print('now', flush=True)\n"
        "        time.sleep(60)\n"
        "    return handle\n"
        "os.open = slow\n"
        f"extraction.extract({dataclasses.replace(config, workers=1)!r})\n".replace("PosixPath", "pathlib.Path")
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)  # the pipe is closed when the last process that writes to it has ended
    assert shard_path(config.output, 0).is_file()
    assert not shard_path(config.output, 1).is_file()
    with pytest.raises(DataError, match="was not finished"):
        FeatureSet(config.output)
    extract(config)
    assert same_features(config.output, whole)
    assert not list(config.output.glob(".*"))


def many_images(data: Path, count: int) -> None:
    """Copies of the first image, so that one bad one is at most 1%."""
    pixels = Image.open(data / "images" / "0.png").resize((28, 28))
    for number in range(count):
        pixels.save(data / "images" / f"{number}.png")
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(count)]
    annotations = [{"image_id": number, "caption": f"picture {number}"} for number in range(count)]
    (data / "annotations" / "captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def test_unreadable_images_are_left_out(config, data):
    many_images(data, 200)
    (data / "images" / "7.png").write_text("no image")
    (data / "images" / "150.png").unlink()
    config = dataclasses.replace(config, images_per_shard=50, batch_size=25, token_arrays=())
    manifest = extract(config)
    assert (manifest.images, manifest.captions) == (198, 198)
    assert [reason.split("/")[-1].split(" ")[0].rstrip(":") for reason in manifest.skipped] == ["7.png", "150.png"]
    assert 7 not in FeatureSet(config.output).caption_ids


def test_more_unreadable_images_are_an_error(config, data):
    many_images(data, 200)
    for number in (7, 8, 150):
        (data / "images" / f"{number}.png").write_text("no image")
    config = dataclasses.replace(config, images_per_shard=50, batch_size=25, token_arrays=(), max_unreadable=0.01)
    for _ in range(2):  # a second run counts what the first one left out
        with pytest.raises(
            DataError, match=r"3 of 200 images cannot be read, more than 1%, the last: .*150.png is not"
        ):
            extract(config)
    assert not read_manifest(config.output).complete


def test_a_shard_without_a_readable_image(config, data):
    many_images(data, 200)
    for number in (0, 1):
        (data / "images" / f"{number}.png").write_text("no image")
    config = dataclasses.replace(config, images_per_shard=2, batch_size=2, token_arrays=())
    assert extract(config).images == 198


def command(config: FeatureConfig, *more: str) -> list[str]:
    arguments = ["features", "--captions", str(config.captions), "--output", str(config.output), "--workers", "0"]
    return [
        *arguments,
        "--backbone",
        config.backbone,
        "--backbone-weights",
        "random",
        "--text-weights",
        "random",
        *more,
    ]


def test_status_1_and_a_last_line_that_counts(config, data, caplog):
    (data / "images" / "3.png").write_bytes(b"no image")
    (data / "images" / "5.png").unlink()
    for _ in range(2):  # what is complete still lacks them
        caplog.clear()
        assert main(command(config)) == 1
        assert caplog.messages[-1] == (
            f"15 captions of 8 images in {config.output}; 2 of 10 images could not be read and were left out"
        )
    assert read_manifest(config.output).complete


def test_no_readable_image_is_status_2_and_leaves_nothing(config, data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    more = ["--images", str(tmp_path / "empty"), "--images-per-shard", "4", "--text-arrays", "penultimate"]
    assert main(command(config, *more)) == 2
    error = capsys.readouterr().err
    assert "none of 10 images can be read, the last: " in error
    assert "9.png: no such image file; name their folder with --images" in error
    assert not config.output.exists()


def test_shards_without_an_image_are_made_again(config, data, monkeypatch):
    """A first run finds no image of the first shards and is interrupted; then they are there."""
    hidden = data.parent / "hidden"
    (data / "images").rename(hidden)
    (data / "images").mkdir()
    whole = dataclasses.replace(config, images=hidden)
    extract(dataclasses.replace(whole, output=config.output.with_name("whole")))

    def interrupted(self, shard, *arguments):
        if shard == 1:
            raise KeyboardInterrupt
        return write(self, shard, *arguments)

    write = Extraction._write
    monkeypatch.setattr(Extraction, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(config)
    monkeypatch.undo()
    extract(whole)
    assert same_features(config.output, config.output.with_name("whole"))


def test_captions_that_are_cut_are_counted_once(config, data, caplog):
    path = data / "annotations" / "captions.json"
    content = json.loads(path.read_text())
    texts = ["a " * 75, "a " * 76, "sea " * 500, "a boat"]
    for annotation, text in zip(content["annotations"], texts, strict=False):
        annotation["caption"] = text
    path.write_text(json.dumps(content))
    caplog.set_level("INFO")
    assert extract(config).cut_captions == 2
    said = [message for message in caplog.messages if message.endswith("takes no more")]
    assert said == ["2 of 19 captions have more than 75 tokens and were cut there: the text tower takes no more"]


def test_an_image_whose_features_are_no_numbers(config, monkeypatch):
    """In the second shard, of images 4 to 7; the first one stays, and a later run goes on after it."""
    encode, calls = Encoders.encode_images, iter(range(100))

    def spoilt(self, crops):
        vectors = encode(self, crops)
        return vectors._replace(heads=vectors.heads * (np.nan if next(calls) == 3 else 1))

    monkeypatch.setattr(Encoders, "encode_images", spoilt)
    with pytest.raises(
        NotFiniteError, match=r"images/6\.png: its features \(heads\) are not finite with fp32 encoders"
    ):
        extract(config)
    assert [path.name for path in config.output.glob("shard-*")] == ["shard-00000.safetensors"]
    monkeypatch.undo()
    assert extract(config).complete


@pytest.mark.parametrize("array", ["tokens", "penultimate", "text"])
def test_a_caption_whose_features_are_no_numbers(config, monkeypatch, array):
    encode = Encoders.encode_captions
    wanted = "wow! a ball near the number 5 house"

    def spoilt(self, captions, token_arrays):
        arrays = encode(self, captions, token_arrays)
        if wanted in captions:
            row = captions.index(wanted)
            arrays[array] = arrays[array].clone()
            arrays[array][row if array == "text" else arrays["token_offsets"][row] + 2, 1] = np.inf
        return arrays

    monkeypatch.setattr(Encoders, "encode_captions", spoilt)
    with pytest.raises(NotFiniteError, match=rf"the caption '{wanted}': its features \({array}\) are not finite"):
        extract(config)


def test_features_beyond_half_precision_are_status_1(config, monkeypatch, capsys):
    encode = Encoders.encode_captions
    monkeypatch.setattr(
        Encoders, "encode_captions", lambda *arguments: {k: v * 10**6 for k, v in encode(*arguments).items()}
    )
    assert main(command(config, "--dtype", "float16")) == 1
    error = capsys.readouterr().err
    assert "are not finite with fp32 encoders, stored in float16; use other weights, --precision fp32 or" in error


# PyTorch tells of it by an exception from wherever Python is just then, even in a destructor, where it is a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_is_killed(config, monkeypatch):
    config = dataclasses.replace(config, workers=1)
    load = images_module.load_image
    monkeypatch.setattr(
        images_module,
        "load_image",
        lambda path: os.kill(os.getpid(), signal.SIGKILL) if path.name == "6.png" else load(path),
    )
    with pytest.raises(DataError, match="a process that loads images was ended from outside"):
        extract(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_per_shard": 0}, "lists no images, heads or widths"),
        ({"images_listed": "many"}, r"manifest.json: images_listed is 'many', expected int"),
        ({"surprise": 1}, r"unknown keys \['surprise'\]"),
    ],
)
def test_a_manifest_of_another_form(config, change, message):
    extract(config)
    path = config.output / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        FeatureSet(config.output)


def test_a_shard_of_another_form(config):
    manifest = extract(config)
    arrays = {key: torch.from_numpy(value.copy()) for key, value in FeatureSet(config.output).shards[0].arrays.items()}
    for change, message in [
        ({"text": arrays["text"][1:]}, r"text has shape \(\d, 12\), expected \(\d, 12\)"),
        ({"caption_rows": arrays["caption_rows"] + 100}, "captions of images that it does not hold"),
        ({"caption_rows": arrays["caption_rows"] - 100}, "captions of images that it does not hold"),
    ]:
        write_shard(config.output, 0, manifest, arrays | change)
        with pytest.raises(DataError, match=message):
            FeatureSet(config.output)


def test_features_of_another_model_are_not_gone_on_with(config):
    extract(config)
    with pytest.raises(DataError, match=r"holds other features \(input_size is \(28, 28\), asked for \(42, 42\)\)"):
        extract(dataclasses.replace(config, input_size=(42, 42)))


def test_a_full_disk(config, full_disk):
    full_disk("shard-")
    with pytest.raises(OutputError, match=r"cannot write .*shard-00000.safetensors: No space left on device"):
        extract(dataclasses.replace(config, token_arrays=()))
    assert [path.name for path in config.output.iterdir()] == ["manifest.json"]
