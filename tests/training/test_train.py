"""The training loop: every configuration learns, and an interrupted run or several processes change nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from benchmarks.training.synthetic_features import write_synthetic_features
from t2d_export.model.projection import LastBlockProjection, projection_from_state_dict
from t2d_runtime.errors import CheckpointError, DataError, OptionError, OutputError
from training.config import TrainConfig
from training.features.batches import BatchReader, FeatureChoice
from training.features.feature_set import LAST_BLOCK, FeatureSet, read_manifest, shard_path, write_manifest
from training.objective.heads import pair_scores
from training.objective.losses import info_nce
from training.objective.objective import new_projection
from training.run.optimization import learning_rate
from training.run.train import train
from training.run.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent.parent
SIZES = {"num_heads": 4, "embed_dim": 32, "text_dim": 24, "images_per_shard": 40}


@pytest.fixture(scope="module")
def validation(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("validation")
    write_synthetic_features(folder, images=40, captions_per_image=1, seed=1, **SIZES)
    return folder


@pytest.fixture
def config(small_features, tmp_path) -> TrainConfig:
    return TrainConfig(features=small_features, output=tmp_path / "run", epochs=3, batch_size=32, learning_rate=3e-3)


def weights(projection) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in projection.state_dict().items()}


def assert_same_bits(first, second) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize(
    ("selection", "projection", "text_input"),
    [
        ("max_score", "text", "average"),
        ("sampled", "text", "end"),
        ("weighted_avg", "both", "end"),
        ("average", "visual", "end"),
        ("cls", "affine", "end"),
        ("sum", "text", "tokens"),
        ("mean", "visual_affine", "end"),
        ("max-row_sum", "visual", "tokens"),
        ("nucleus", "text", "tokens"),
    ],
)
def test_every_selection_and_projection_learns(config, selection, projection, text_input):
    changed = dataclasses.replace(config, selection=selection, projection=projection, text_input=text_input)
    history = train(changed).history
    assert history[-1].train_loss < 0.95 * history[0].train_loss


def test_last_block_starts_as_clips_and_learns(config, tmp_path):
    block = LastBlockProjection(24, 32, width=24, heads=1)
    torch.nn.init.normal_(block.clip_text_proj, std=0.2)
    start = {name: value for name, value in block.state_dict().items() if not name.startswith("projection_layer")}
    features = tmp_path / "features"
    write_synthetic_features(features, images=100, token_arrays=("penultimate",), **SIZES)
    changed = dataclasses.replace(config, features=features, projection="last_block")
    with pytest.raises(DataError, match=r"last_block\.safetensors is missing"):
        train(changed)
    safetensors.torch.save_file(start, features / LAST_BLOCK)
    result = train(changed)
    assert result.history[-1].train_loss < 0.95 * result.history[0].train_loss
    saved = torch.load(result.last_path, weights_only=True)
    assert isinstance(projection_from_state_dict(saved, text_dim=24, embed_dim=32, text_heads=1), LastBlockProjection)
    assert not torch.equal(saved["last_ln.weight"], start["last_ln.weight"])


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "triplet"},
        {"optimizer": "adamw", "schedule": "warmup", "warmup_steps": 5},
        {"schedule": "cosine", "warmup_steps": 2, "over_batch_squared": False},
    ],
)
def test_losses_optimisers_and_schedules(config, changes):
    history = train(dataclasses.replace(config, **changes)).history
    assert history[-1].train_loss < 0.95 * history[0].train_loss


def test_learning_rates_are_the_released_ones(config):
    cosine = dataclasses.replace(config, schedule="cosine", warmup_steps=4, learning_rate=1.0)
    rates = [learning_rate(cosine, step, 12) for step in range(12)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[8] == pytest.approx(0.5)
    assert rates[11] == pytest.approx(0.5 * (1 + np.cos(np.pi * 7 / 8)))


@pytest.mark.parametrize("selection", ["max_score", "sampled"])
def test_an_interrupted_run_ends_with_the_same_bits(config, validation, tmp_path, monkeypatch, selection):
    config = dataclasses.replace(config, selection=selection, validation=validation)
    whole = train(dataclasses.replace(config, output=tmp_path / "whole"))

    passes = []

    def killed(self, batch, *arguments):
        if len(batch.captions) < 32:  # the last batch of an epoch
            passes.append(batch)
            if len(passes) == 2:
                raise KeyboardInterrupt
        return step(self, batch, *arguments)

    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    resumed = train(config)

    assert_same_bits(weights(whole.projection), weights(resumed.projection))
    for ours, theirs in zip(whole.history, resumed.history, strict=True):
        assert (ours.train_loss, ours.validation_loss, ours.head_counts) == (
            theirs.train_loss,
            theirs.validation_loss,
            theirs.head_counts,
        )


def test_a_longer_run_goes_on_from_a_shorter_one(config, tmp_path):
    whole = train(dataclasses.replace(config, output=tmp_path / "whole"))
    train(dataclasses.replace(config, epochs=1))
    assert_same_bits(weights(whole.projection), weights(train(config).projection))


def test_files_of_a_finished_run(config, validation):
    result = train(dataclasses.replace(config, validation=validation))
    assert {path.name for path in config.output.iterdir()} == {
        "projection.pth",
        "projection_best.pth",
        "checkpoint.safetensors",
        "head_choices.npz",
        "heads.png",
        "losses.png",
        "README.md",
        "tensorboard",
    }
    saved = torch.load(result.last_path, weights_only=True)
    assert list(saved) == ["linear_layer.weight", "linear_layer.bias", "hidden_layers.0.weight", "hidden_layers.0.bias"]
    assert_same_bits(saved, weights(result.projection))
    with np.load(config.output / "head_choices.npz") as choices:
        counts = np.bincount(choices["heads"], minlength=4)
        assert sorted(choices["caption_ids"]) == list(range(250))
    assert tuple(counts) == result.history[-1].head_counts
    card = (config.output / "README.md").read_text()
    assert "250 captions of 100 images" in card
    assert '"seed": 123' in card


def test_best_is_the_epoch_of_the_lowest_validation_loss(config, validation, monkeypatch):
    losses = iter([2.0, 1.0, 3.0])
    monkeypatch.setattr(Trainer, "validate", lambda self: [next(losses)])
    config = dataclasses.replace(config, validation=validation)
    train(dataclasses.replace(config, epochs=2))
    second = torch.load(config.output / "projection.pth", weights_only=True)
    result = train(config)
    assert_same_bits(torch.load(result.best_path, weights_only=True), second)


def test_two_processes_are_one(config, tmp_path):
    """The same global batches, also the last one, of 26 captions, and one of 1: sums differ in their order alone."""
    config = dataclasses.replace(config, batch_size=83, epochs=2)  # 83 + 83 + 83 + 1 captions
    one = train(dataclasses.replace(config, output=tmp_path / "one"))
    script = tmp_path / "two.py"
    script.write_text(
        "import torch\n"
        "from pathlib import Path\n"
        "from training.config import TrainConfig\n"
        "from training.run.train import train\n"
        "torch.set_num_threads(1)\n"
        f"train(TrainConfig(features=Path({str(config.features)!r}), output=Path({str(config.output)!r}),\n"
        f"    epochs=2, batch_size=83, learning_rate={config.learning_rate}))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    two = torch.load(config.output / "projection.pth", weights_only=True)
    for name, expected in weights(one.projection).items():
        # Adam divides by the root of the squared gradient: where a gradient is near 0 its rounding moves a whole step.
        assert (two[name] - expected).abs().max() <= 2e-5, name
        assert (two[name] - expected).abs().mean() <= 1e-7, name


def test_gradients_of_shares_sum_to_the_whole(small_features):
    """What two processes compute, in one: with negatives left out of the gathering the gradients would differ."""
    opened = FeatureSet(small_features)
    batch = next(BatchReader(opened, FeatureChoice.of("max_score", "both", "end"), 31).epoch())
    projection = new_projection("both", small_features, opened.manifest, seed=0)

    def gradients(cut: slice | None) -> list[torch.Tensor]:
        text, visual = projection.project_text(batch.text), projection.project_visual(batch.visual)
        if cut is not None:  # of the gathered rows the process's own alone have a graph
            own = torch.zeros(len(text), dtype=torch.bool)
            own[cut] = True
            text = torch.where(own[:, None], text, text.detach())
            visual = torch.where(own[:, None, None], visual, visual.detach())
        projection.zero_grad()
        torch.autograd.backward(info_nce(pair_scores("max_score", text, visual).matrix))
        return [parameter.grad.clone() for parameter in projection.parameters()]

    for whole, first, second in zip(gradients(None), gradients(slice(0, 16)), gradients(slice(16, 31)), strict=True):
        torch.testing.assert_close(first + second, whole, rtol=1e-5, atol=1e-8)


def test_another_runs_checkpoint_is_refused(config):
    train(dataclasses.replace(config, epochs=1))
    with pytest.raises(CheckpointError, match=r"of another run \(selection was 'max_score', now 'sampled'"):
        train(dataclasses.replace(config, selection="sampled"))


def test_a_checkpoint_of_another_shape_is_refused(config, tmp_path):
    train(dataclasses.replace(config, epochs=1))
    wider = tmp_path / "wider"
    write_synthetic_features(wider, images=100, captions_per_image=2.5, **(SIZES | {"embed_dim": 48}))
    with pytest.raises(CheckpointError, match=r"is \(32,\), expected \(48,\): a checkpoint of another shape"):
        train(dataclasses.replace(config, features=wider))


def test_a_damaged_checkpoint_is_refused(config):
    train(dataclasses.replace(config, epochs=1))
    path = config.output / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        train(config)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "projection_best.pth", "head_choices.npz", "losses.png"])
def test_a_full_disk_leaves_the_last_state(config, validation, full_disk, name):
    config = dataclasses.replace(config, validation=validation)
    train(dataclasses.replace(config, epochs=1))
    before = {path.name: path.read_bytes() for path in config.output.iterdir() if path.is_file()}
    full_disk(name)
    with pytest.raises(OutputError, match=rf"cannot write .*{name}: No space left on device"):
        train(config)
    assert (config.output / name).read_bytes() == before[name]
    assert not list(config.output.glob(".*"))


def test_validation_features_of_another_model_are_refused(config, validation, tmp_path):
    other = tmp_path / "other"
    write_synthetic_features(other, images=40, captions_per_image=1, seed=1, **SIZES)
    write_manifest(other, dataclasses.replace(read_manifest(other), backbone_sha256="a" * 64))
    with pytest.raises(DataError, match="a shard of another model"):
        train(dataclasses.replace(config, validation=other))
    write_manifest(other, dataclasses.replace(read_manifest(validation), input_size=(224, 224)))
    with pytest.raises(DataError, match=r"input_size is \(224, 224\), that of .* is \(448, 448\)"):
        train(dataclasses.replace(config, validation=other))


def test_unusable_feature_sets(config, tmp_path):
    broken = tmp_path / "broken"
    with pytest.raises(DataError, match="holds no features"):
        train(dataclasses.replace(config, features=broken))
    write_synthetic_features(broken, images=100, **SIZES)
    changed = dataclasses.replace(config, features=broken, text_input="tokens", selection="sum")
    with pytest.raises(DataError, match="--text-arrays tokens"):
        train(changed)
    manifest = read_manifest(broken)
    write_manifest(broken, dataclasses.replace(manifest, complete=False))
    with pytest.raises(DataError, match="not finished"):
        train(changed)
    write_manifest(broken, dataclasses.replace(manifest, captions=499))
    with pytest.raises(DataError, match="500 captions in the shards, the manifest says 499"):
        train(changed)
    shard_path(broken, 1).write_bytes(shard_path(broken, 1).read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        train(changed)
    shard_path(broken, 1).unlink()
    with pytest.raises(DataError, match="is missing"):
        train(changed)
    content = json.loads((broken / "manifest.json").read_text()) | {"schema_version": 2}
    (broken / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="schema version 2, expected 1"):
        train(changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": "best"}, "selection: expected one of max_score"),
        ({"batch_size": 1}, "batch_size >= 2"),
        ({"text_input": "tokens"}, "takes a selection of"),
        ({"schedule": "warmup"}, "takes a number of steps"),
        ({"device": "tpu"}, "expected cpu or cuda"),
    ],
)
def test_bad_settings(config, changes, message):
    with pytest.raises(OptionError, match=message):
        train(dataclasses.replace(config, **changes))
